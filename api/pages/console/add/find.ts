/** The first step of adding a mailbox: the address, and what was found for it. */
import { html } from "hono/html";
import type { Discovered } from "../../../../shared/mail/discovery/proposal.ts";
import type { Html } from "../../html.ts";
import { button, hiddenFields, select, table, textInput } from "../parts.ts";
import { toneMark } from "../states.ts";
import { foreign } from "../words.ts";
import { addBody, type AddView, endpointPart } from "./form.ts";

type Found = Discovered["proposals"][number];

type FindView = { base: string; address: string; may: boolean; refusal?: string };

/** The form for the address alone. */
export function findBody({ base, address, may, refusal }: FindView): Html {
  const path = `${base}/mailboxes/add`;
  const input = textInput("address", "Mail address", address, "type=email required autofocus");
  return html`${refusal ? html`<p class="note bad" role="alert">${foreign(refusal)}</p>` : ""}
    <p>Type the address. The service looks for its mail servers, and shows them before you type a password.</p>
    ${button({ path, label: "Find its servers", may, look: "main", inputs: input, fields: { do: "find" } })}
    <p><a href="${path}?by=hand">Enter the servers yourself</a></p>`;
}

export type ProposalView = AddView & {
  discovered: Discovered;
  /** Which of the proposals is in the form. */
  choice: number;
};

const PLACES: Record<Discovered["steps"][number]["name"], string> = {
  known: "List of providers",
  mx: "Mail exchangers",
  autoconfig: "Autoconfig file",
  srv: "SRV records",
  exchange: "Exchange",
};

/** What was found: the ways without a password, the form with the servers, and the other proposals. */
export function proposalBody(view: ProposalView): Html {
  const { discovered, choice, base, fields } = view;
  const { steps, proposals } = discovered;
  const chosen = proposals[choice];
  const rows = steps.map(({ name, found, ms, detail }) => [
    toneMark(found ? "good" : "off", PLACES[name]),
    found ? "found" : "nothing",
    `${ms} ms`,
    foreign(detail),
  ]);
  const others = proposals.flatMap((one, n) => (n === choice ? [] : [otherPart(one, n, { base, fields })]));
  return html`<p class="verdict">
      ${
        chosen
          ? toneMark("good", `Found: ${serversOf(chosen)}.`)
          : toneMark("warn", "No servers were found. Ask the provider, and type them here.")
      }
    </p>
    ${chosen ? sourceNote(chosen) : ""}
    <details>
      <summary>Where the service looked</summary>
      ${table(["Place", "Result", "Time #", "What was found"], rows)}
    </details>
    ${
      others.length > 0
        ? html`<h2>Found too</h2>
            ${others}`
        : ""
    }
    ${chosen?.consent ? consentPart(view, chosen) : ""}
    <h2>${chosen?.consent ? "Without the owner's consent" : "The mailbox"}</h2>
    ${addBody(view)}`;
}

const TLS_NAMES = { implicit: "TLS", starttls: "STARTTLS" } as const;

/** "IMAP imap.gmail.com port 993, TLS", with the name of the provider if it is known. */
function serversOf({ provider, receive }: Found): string {
  const server =
    "host" in receive
      ? `${receive.protocol.toUpperCase()} ${receive.host} port ${receive.port}, ${TLS_NAMES[receive.tls]}`
      : undefined;
  const words = server ?? (receive.protocol === "ews" ? "an Exchange server" : "Microsoft Graph");
  return provider === null ? words : `${provider}, ${words}`;
}

/** Only the list and the mail exchangers are known to this service. */
function sourceNote({ source }: Found): Html | string {
  if (source === "known" || source === "mx") return "";
  return html`<p class="note">
    This is what the domain itself says. Type the password only if you know that these servers are right.
  </p>`;
}

function otherPart(one: Found, choice: number, { base, fields }: Pick<ProposalView, "base" | "fields">): Html {
  return html`<div class="buttons">
    ${serversOf(one)} <span class="soft">(${foreign(one.origin)})</span>
    ${button({
      path: `${base}/mailboxes/add`,
      label: "Use these instead",
      may: true,
      fields: { do: "find", address: fields.address, id: fields.id, choice: String(choice) },
    })}
  </div>`;
}

const PROVIDER_NAMES = { microsoft: "Microsoft", google: "Google" } as const;

/** One way to the consent page, if an application is registered for it. Else how to register one. */
function consentPart(view: ProposalView, { consent }: Found): Html | string {
  if (!consent) return "";
  const { base, fields, may } = view;
  const name = PROVIDER_NAMES[consent.provider];
  if (consent.applications.length === 0)
    return html`<p class="note">
      ${name} lets the owner of the mailbox agree by a link, without a password. For that an application of ${name} must
      be registered here, and none is: <code>bun run cli application add ${consent.provider}.json</code>.
      docs/consent.md shows how to register the service at ${name} and what is in the file.
    </p>`;
  const [first = ""] = consent.applications;
  const applications =
    consent.applications.length === 1
      ? hiddenFields({ application: first })
      : select({
          name: "application",
          label: "Application",
          value: first,
          options: consent.applications.map((id) => [id, id]),
        });
  return html`<h2>By the owner's consent</h2>
    <form method="post" action="${base}/mailboxes/add">
      ${hiddenFields({ do: "consent", id: fields.id, address: fields.address })} ${applications} ${endpointPart(view)}
      <div class="buttons"><button class="main" ${may ? "" : "disabled"}>Connect with ${name}</button></div>
    </form>`;
}

/** The link for the owner of the mailbox, and the only page that shows the webhook's secret. */
export function consentBody({
  url,
  secret,
  address,
}: {
  url: string;
  secret: string | undefined;
  address: string;
}): Html {
  return html`<p>Whoever owns ${address} signs in on the next page and agrees. Then you come back here.</p>
    ${secretPart(secret)}
    <p><a class="button" href="${url}">Go to the consent page</a></p>
    <p class="soft">If somebody else owns it, send the address of this link. It is valid once, and for 30 minutes.</p>`;
}

export function secretPart(secret: string | undefined): Html | string {
  if (secret === undefined) return "";
  return html`<p>This secret signs its webhooks. Copy it now: it is not shown again.</p>
    <pre tabindex="0"><code>${secret}</code></pre>`;
}
