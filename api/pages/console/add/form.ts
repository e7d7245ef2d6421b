/** The form with everything that a mailbox needs, and the result of its test above it. */
import { html } from "hono/html";
import type { PreflightReport } from "../../../../shared/mail/mail.ts";
import type { Html } from "../../html.ts";
import { preflightTable } from "../mailbox.ts";
import { button, hiddenFields, select, textInput } from "../parts.ts";
import { toneMark } from "../states.ts";
import { foreign } from "../words.ts";

/** The fields of the form that are shown again. Passwords are not among them. `origin` and `notes` come from a proposal. */
export const ADD_FIELDS = [
  "id",
  "address",
  "name",
  "protocol",
  "host",
  "port",
  "tls",
  "user",
  "tenant",
  "clientId",
  "application",
  "sendHost",
  "sendPort",
  "sendTls",
  "send",
  "origin",
  "notes",
  "url",
] as const;
export type AddFields = Record<(typeof ADD_FIELDS)[number], string>;

export type AddView = {
  base: string;
  fields: AddFields;
  may: boolean;
  /** Registered applications of Microsoft. */
  applications: readonly string[];
  /** The endpoint of the demo, while the service runs in it. */
  demoEndpoint: string | undefined;
  report?: PreflightReport;
  /** Why the form was refused. */
  refusal?: string;
};

export function addBody(view: AddView): Html {
  const { base, fields, may, report, refusal } = view;
  return html`${refusal ? html`<p class="note bad" role="alert">${foreign(refusal)}</p>` : ""}
    ${report ? reportPart(report) : ""}
    <form method="post" action="${base}/mailboxes/add" autocomplete="off">
      ${hiddenFields({ id: fields.id, origin: fields.origin, notes: fields.notes })}
      ${fields.origin === "" ? "" : proposalNote(fields)} ${addressPart(fields)} ${receivingPart(view)}
      ${sendingPart(fields)} ${endpointPart(view)}
      ${may ? submits(base, fields.id) : button({ path: `${base}/mailboxes/add`, label: "Register", may })}
    </form>
    <p class="soft">
      Passwords are not shown again: type them again after a failure. Filters, polling and the other ways to log in are
      fields of the API.
    </p>`;
}

/** Where the servers in the form come from, and what the owner has to do first. */
function proposalNote({ origin, notes }: AddFields): Html {
  return html`<div class="note">
    <p>Found at: ${foreign(origin)}</p>
    ${notes === "" ? "" : html`<p>${foreign(notes)}</p>`}
    <p class="soft">Look at the server before you type the password: it goes there and nowhere else.</p>
  </div>`;
}

function addressPart(fields: AddFields): Html {
  return html`<fieldset>
    <legend>Whose mail</legend>
    <div class="row">
      ${textInput("address", "Mail address", fields.address, "type=email required")}
      ${textInput("name", "Name (optional)", fields.name)}
    </div>
  </fieldset>`;
}

function receivingPart({ fields, report, applications }: AddView): Html {
  const isRefused = report?.steps.some(({ name, ok }) => name === "login" && !ok) === true;
  const passwordAttributes = `type=password autocomplete=new-password${isRefused ? " autofocus aria-describedby=refused" : ""}`;
  const isGraph = fields.protocol === "graph";
  return html`<fieldset>
    <legend>How it is received</legend>
    <div class="row">
      ${select({ name: "protocol", label: "Protocol", value: fields.protocol, options: PROTOCOLS })}
      ${textInput("host", "Server (empty for Exchange: it is looked for)", fields.host)}
      ${textInput("port", "Port (empty: the usual one)", fields.port, "inputmode=numeric")}
      ${select({ name: "tls", label: "TLS", value: fields.tls, options: TLS })}
    </div>
    <div class="row">
      ${textInput("user", "User (empty: the address)", fields.user)}
      ${textInput("password", "Password", "", passwordAttributes)}
    </div>
    ${
      isRefused
        ? html`<p class="bad" id="refused">The server refused this user and password. Type the password again.</p>`
        : ""
    }
    <details ${isGraph ? "open" : ""}>
      <summary>Microsoft Graph: the application</summary>
      <div class="row">
        ${
          applications.length === 0
            ? ""
            : select({
                name: "application",
                label: "A registered application",
                any: "none of them",
                value: fields.application,
                options: applications.map((id) => [id, id]),
              })
        }
        ${textInput("tenant", "Tenant", fields.tenant)} ${textInput("clientId", "Client id", fields.clientId)}
        ${textInput("clientSecret", "Client secret", "", "type=password autocomplete=new-password")}
      </div>
    </details>
  </fieldset>`;
}

/** A server for sending is offered only if one was found. */
function sendingPart({ sendHost, sendPort, sendTls, send }: AddFields): Html | string {
  if (sendHost === "") return "";
  const checked = send === "on" ? "checked" : "";
  return html`<fieldset>
    <legend>Sending</legend>
    ${hiddenFields({ sendHost, sendPort, sendTls })}
    <label class="check">
      <input type="checkbox" name="send" value="on" ${checked} />
      The mailbox also sends, through ${sendHost} port ${sendPort} with the same login
    </label>
  </fieldset>`;
}

export function endpointPart({ fields, demoEndpoint }: Pick<AddView, "fields" | "demoEndpoint">): Html {
  const url = fields.url || demoEndpoint;
  return html`<fieldset>
    <legend>Where its messages go</legend>
    <div class="row">${textInput("url", "Endpoint (URL)", url, "type=url required")}</div>
    ${
      demoEndpoint === undefined
        ? html`<p class="soft">
            No CRM at hand? <code>npx -y bun@1.4.5 run demo</code> starts the service with an endpoint that shows what
            it gets.
          </p>`
        : html`<p class="soft">
            No CRM at hand? <a href="${new URL("/", demoEndpoint).href}">The demo's endpoint</a> shows what it gets, at
            <code>${demoEndpoint}</code>.
          </p>`
    }
  </fieldset>`;
}

function submits(base: string, id: string): Html {
  return html`<div class="buttons">
    <button class="main" name="do" value="test">Test and go on</button>
    <button formaction="${base}/mailboxes/${encodeURIComponent(id)}/added">Register without a test</button>
  </div>`;
}

const PROTOCOLS: [string, string][] = [
  ["imap", "IMAP"],
  ["pop3", "POP3"],
  ["ews", "Exchange"],
  ["graph", "Microsoft Graph"],
];
const TLS: [string, string][] = [
  ["implicit", "from the first byte"],
  ["starttls", "STARTTLS"],
  ["none", "none"],
];

function reportPart(report: PreflightReport): Html {
  return html`<p class="verdict">
      ${toneMark("bad", "A step failed, so nothing was registered. Its row says what to do.")}
    </p>
    ${preflightTable(report)}`;
}
