/** The form that changes a mailbox: its servers, its folders, its endpoint, its secrets. */
import { html, raw } from "hono/html";
import type { Mailbox, Protocol } from "../../../../shared/contract/mailbox.ts";
import type { FieldError } from "../../../../shared/contract/problem.ts";
import { listSecretPlaces, portOf } from "../../../../shared/places.ts";
import type { Html } from "../../html.ts";
import { hiddenFields } from "../parts.ts";
import { foreign } from "../words.ts";

type Kind = "text" | "number" | "lines" | "choice" | "check";
/** A field by the path that the API calls it. `options` of a choice. */
export type EditField = { path: string; label: string; kind: Kind; options?: readonly string[]; hint?: string };

const HOST: EditField = { path: "receive.host", label: "Server", kind: "text" };
const PORT: EditField = { path: "receive.port", label: "Port (empty: the usual one)", kind: "number" };
const TLS = (options: readonly string[]): EditField => ({
  path: "receive.tls",
  label: "TLS",
  kind: "choice",
  options,
});
const FOLDERS: EditField = { path: "receive.folders", label: 'Folders, one a line, or "all"', kind: "lines" };
const MODE: EditField = { path: "receive.mode", label: "New mail", kind: "choice", options: ["push", "poll"] };
const ALL_TLS = TLS(["implicit", "starttls", "none"]);

const RECEIVING: Record<Protocol, readonly EditField[]> = {
  imap: [HOST, PORT, ALL_TLS, FOLDERS, MODE],
  pop3: [HOST, PORT, ALL_TLS],
  ews: [
    { ...HOST, label: "Server (empty: found by the address)" },
    { path: "receive.url", label: "URL of the service (empty: the usual one)", kind: "text" },
    TLS(["implicit", "none"]),
    FOLDERS,
    MODE,
  ],
  graph: [FOLDERS, MODE],
};

/** The fields that a mailbox has. Its secrets have fields of their own. */
export function editFields({ receive }: Mailbox): EditField[] {
  const isCron = "cron" in receive.poll;
  const poll: EditField = isCron
    ? { path: "receive.poll.cron", label: "Polled at (cron)", kind: "text" }
    : { path: "receive.poll.everySeconds", label: "Seconds between polls", kind: "number" };
  return [
    { path: "name", label: "Name", kind: "text" },
    ...RECEIVING[receive.protocol],
    poll,
    { path: "deliver.url", label: "Endpoint", kind: "text" },
    { path: "paused", label: "Paused", kind: "check" },
  ];
}

/** What the fields say of a mailbox, by their paths. */
export function editValues(mailbox: Mailbox): Record<string, string> {
  const values = editFields(mailbox).map(({ path }) => [path, textOf(memberOf(mailbox, path.split(".")))] as const);
  return Object.fromEntries(values);
}

function textOf(value: unknown): string {
  if (Array.isArray(value)) return value.join("\n");
  if (typeof value === "boolean") return value ? "on" : "";
  return typeof value === "string" || typeof value === "number" ? String(value) : "";
}

function memberOf(value: unknown, [name, ...deeper]: readonly string[]): unknown {
  if (name === undefined) return value;
  if (typeof value !== "object" || value === null) return undefined;
  return memberOf((value as Record<string, unknown>)[name], deeper);
}

const SECRET_WORDS: Record<string, string> = {
  password: "password",
  accessToken: "access token",
  clientSecret: "client secret",
  privateKey: "private key",
  refreshToken: "refresh token",
};
const PART_WORDS: Record<string, string> = {
  receive: "for receiving",
  send: "for sending",
  deliver: "at the endpoint",
};

/** The secrets that belong to a login, with their words. They are never shown. */
export function editSecrets(mailbox: Mailbox): { path: string; label: string }[] {
  const paths = listSecretPlaces(mailbox).map(({ path }) => path);
  return paths
    .filter((path) => path.includes(".auth.") && !path.startsWith("former."))
    .map((path) => {
      const parts = path.split(".");
      const what = SECRET_WORDS[parts.at(-1) ?? ""] ?? "secret";
      return { path, label: `New ${what} ${PART_WORDS[parts[0] ?? ""] ?? ""} (empty: it stays)` };
    });
}

export type EditView = {
  base: string;
  mailbox: Mailbox;
  values: Record<string, string>;
  /** Why it was refused. */
  problem: { cause: string; fix: string; errors: readonly FieldError[] } | undefined;
  may: boolean;
};

export function editBody({ base, mailbox, values, problem, may }: EditView): Html {
  const id = encodeURIComponent(mailbox.id);
  const errors = new Map(problem?.errors.map((one) => [one.path, one.message]));
  const fields = editFields(mailbox);
  const secrets = editSecrets(mailbox);
  const shown = new Set([...fields, ...secrets].map(({ path }) => path));
  const others = [...errors].filter(([path]) => !shown.has(path));
  return html`${problem ? refusal(problem.cause, others) : ""}
    <p>
      A secret is needed again when its server, port, account or TLS changes. Everything that is not here changes by
      <code>PATCH /api/v1/mailboxes/${mailbox.id}</code>.
    </p>
    <form method="post" action="${base}/mailboxes/${id}/edit">
      ${hiddenFields({ revision: String(mailbox.revision) })}
      ${fields.map((field) => fieldPart(field, values[field.path] ?? "", errors.get(field.path), mailbox))}
      ${secrets.map((secret) => secretPart(secret, errors.get(secret.path)))}
      <div class="buttons">
        <button class="main" ${may ? "" : raw("disabled")}>Save</button>
        <a class="button" href="${base}/mailboxes/${id}">Back to ${mailbox.address}</a>
      </div>
    </form>`;
}

function refusal(cause: string, others: [string, string][]): Html {
  return html`<div class="note bad" role="alert">
    <p>Nothing was changed. ${foreign(cause)}</p>
    ${others.map(([path, message]) => html`<p>${path} ${message}</p>`)}
  </div>`;
}

function fieldPart(
  { path, label, kind, options = [] }: EditField,
  value: string,
  error: string | undefined,
  mailbox: Mailbox,
) {
  const about = error === undefined ? "" : html`aria-invalid="true" aria-describedby="${path}-error"`;
  const inputs: Record<Kind, () => Html> = {
    text: () => html`<input id="${path}" name="${path}" value="${value}" ${about} />`,
    number: () =>
      html`<input
        id="${path}"
        name="${path}"
        type="number"
        value="${value}"
        placeholder="${usualOf(path, mailbox)}"
        ${about}
      />`,
    lines: () => html`<textarea id="${path}" name="${path}" rows="4" ${about}>${value}</textarea>`,
    choice: () =>
      html`<select id="${path}" name="${path}" ${about}>
        ${options.map((one) => html`<option value="${one}" ${one === value ? raw("selected") : ""}>${one}</option>`)}
      </select>`,
    check: () =>
      html`<input id="${path}" name="${path}" type="checkbox" ${value === "on" ? raw("checked") : ""} ${about} />`,
  };
  return row(path, label, inputs[kind](), error);
}

/** The port that is used when the field is empty. */
function usualOf(path: string, { receive }: Mailbox): string {
  if (path !== "receive.port" || receive.protocol === "graph") return "";
  const { port: _, ...withoutPort } = receive;
  return String(portOf(withoutPort));
}

function secretPart({ path, label }: { path: string; label: string }, error: string | undefined): Html {
  const about = error === undefined ? "" : html`aria-invalid="true" aria-describedby="${path}-error"`;
  const input = html`<input id="${path}" name="${path}" type="password" autocomplete="new-password" ${about} />`;
  return row(path, label, input, error);
}

function row(path: string, label: string, input: Html, error: string | undefined): Html {
  return html`<div class="field">
    <label for="${path}">${label}</label>
    ${input} ${error === undefined ? "" : html`<p class="bad" id="${path}-error">It ${error}.</p>`}
  </div>`;
}
