/** The form that registers a mailbox, and the steps of its test. */
import { html } from "hono/html";
import type { PreflightReport } from "../../../shared/mail/mail.ts";
import type { Html } from "../html.ts";
import { preflightTable } from "./mailbox.ts";
import { button, hiddenFields, select, textInput } from "./parts.ts";
import { toneMark } from "./states.ts";
import { foreign } from "./words.ts";

/** The fields of the form that are shown again. Passwords are not among them. */
export type AddFields = Record<
  "id" | "address" | "name" | "protocol" | "host" | "port" | "tls" | "user" | "tenant" | "clientId" | "url",
  string
>;

export type AddView = {
  base: string;
  fields: AddFields;
  may: boolean;
  report?: PreflightReport;
  /** Why the form was refused. */
  refusal?: string;
};

export function addBody({ base, fields, may, report, refusal }: AddView): Html {
  return html`${refusal ? html`<p class="note bad" role="alert">${foreign(refusal)}</p>` : ""}
    ${report ? reportPart(report) : ""}
    <form method="post" action="${base}/mailboxes/add" autocomplete="off">
      ${hiddenFields({ id: fields.id })}
      <fieldset>
        <legend>Whose mail</legend>
        <div class="row">
          ${textInput("address", "Mail address", fields.address, "type=email required")}
          ${textInput("name", "Name (optional)", fields.name)}
        </div>
      </fieldset>
      <fieldset>
        <legend>How it is received</legend>
        <div class="row">
          ${select({ name: "protocol", label: "Protocol", value: fields.protocol, options: PROTOCOLS })}
          ${textInput("host", "Server (empty for Exchange: it is looked for)", fields.host)}
          ${textInput("port", "Port (empty: the usual one)", fields.port, "inputmode=numeric")}
          ${select({ name: "tls", label: "TLS", value: fields.tls, options: TLS })}
        </div>
        <div class="row">
          ${textInput("user", "User (empty: the address)", fields.user)}
          ${textInput("password", "Password", "", "type=password autocomplete=new-password")}
        </div>
        <details ${fields.protocol === "graph" ? "open" : ""}>
          <summary>Microsoft Graph: the application</summary>
          <div class="row">
            ${textInput("tenant", "Tenant", fields.tenant)} ${textInput("clientId", "Client id", fields.clientId)}
            ${textInput("clientSecret", "Client secret", "", "type=password autocomplete=new-password")}
          </div>
        </details>
      </fieldset>
      <fieldset>
        <legend>Where its messages go</legend>
        <div class="row">${textInput("url", "Endpoint (URL)", fields.url, "type=url required")}</div>
      </fieldset>
      ${may ? submits() : button({ path: `${base}/mailboxes/add`, label: "Register", may })}
    </form>
    <p class="soft">
      Passwords are not shown again: type them again after a failure. Folders, filters, polling, sending and the other
      ways to log in are fields of the API.
    </p>`;
}

function submits(): Html {
  return html`<div class="buttons">
    <button class="main" name="do" value="register">Test, then register</button>
    <button name="do" value="test">Test only</button>
    <button name="do" value="anyway">Register without a test</button>
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
  const words = report.ok ? "Every step passed." : "A step failed, so nothing was registered. Its row says what to do.";
  return html`<p class="verdict">${toneMark(report.ok ? "good" : "bad", words)}</p>
    ${preflightTable(report)}`;
}

/** After the registration: the only page that shows the webhook's secret. */
export function addedBody(base: string, id: string, secret: string | undefined): Html {
  return html`<p class="verdict">${toneMark("good", "The mailbox is registered.")}</p>
    ${
      secret === undefined
        ? ""
        : html`<p>This secret signs its webhooks. Copy it now: it is not shown again.</p>
            <pre tabindex="0"><code>${secret}</code></pre>`
    }
    <p><a class="button" href="${base}/mailboxes/${encodeURIComponent(id)}">Open the mailbox</a></p>`;
}
