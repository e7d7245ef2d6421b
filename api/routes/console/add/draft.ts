/** What was typed, as the body that the API takes, and as an encrypted draft between the test and the registration. */
import { randomUUID } from "node:crypto";
import * as v from "valibot";
import { Problem } from "../../../../shared/contract/problem.ts";
import { clock } from "../../../../shared/time.ts";
import { ADD_FIELDS, type AddFields } from "../../../pages/console/add/form.ts";
import type { ConsoleCall } from "../page.ts";

/** The form names the mailbox's id, so a form that is sent twice registers one mailbox. */
export function fieldsOf({ form, deps }: ConsoleCall): AddFields {
  const read = (name: string) => (form.get(name) ?? "").trim();
  const fields = Object.fromEntries(ADD_FIELDS.map((name) => [name, read(name)])) as AddFields;
  return { ...fields, id: fields.id || deps.mailboxPrefix + randomUUID() };
}

type Body = Record<string, unknown>;

/** The body that the API takes. Fields that are empty are left out, and the API says what is missing. */
export function toMailbox(fields: AddFields, form: URLSearchParams): Body {
  const { id, address, name, url, protocol } = fields;
  const receive = protocol === "graph" ? graphOf(fields, form) : serverOf(fields, form);
  return {
    id,
    address,
    ...(name !== "" && { name }),
    receive: { protocol, ...receive },
    ...(fields.send === "on" && { send: sendOf(fields) }),
    deliver: { url },
  };
}

function graphOf({ tenant, clientId, application }: AddFields, form: URLSearchParams): object {
  if (application !== "") return { auth: { application } };
  return {
    auth: { oauth2: { ...(tenant !== "" && { tenant }), clientId, clientSecret: form.get("clientSecret") ?? "" } },
  };
}

function serverOf({ host, port, tls, user, address }: AddFields, form: URLSearchParams): object {
  return {
    ...(host !== "" && { host }),
    ...(port !== "" && { port: Number(port) }),
    tls,
    auth: { user: user || address, password: form.get("password") ?? "" },
  };
}

function sendOf({ sendHost, sendPort, sendTls }: AddFields): object {
  return { host: sendHost, port: Number(sendPort), tls: sendTls };
}

const VALID_MS = 30 * 60_000;
const Draft = v.object({ body: v.record(v.string(), v.unknown()), until: v.number() });

/** A draft is for one actor: nobody else can use it, and nothing else that the service encrypted is one. */
const purposeOf = ({ actor }: ConsoleCall) => `console draft of ${actor.id}`;

/** The mailbox with its password, encrypted for half an hour. */
export function sealDraft(call: ConsoleCall, body: Body): string {
  return call.deps.sealing.seal(JSON.stringify({ body, until: clock.now() + VALID_MS }), purposeOf(call));
}

/** The mailbox of a draft. Throws `invalid` if it is none of this actor, or too old. */
export function openDraft(call: ConsoleCall, sealed: string): Body {
  try {
    const { body, until } = v.parse(Draft, JSON.parse(call.deps.sealing.open(sealed, purposeOf(call))));
    if (until > clock.now()) return body;
  } catch (error) {
    throw expiredProblem(error);
  }
  throw expiredProblem();
}

function expiredProblem(cause?: unknown): Problem {
  const fix = "Type the address again and start from there.";
  return new Problem("invalid", "What was typed is kept for half an hour, and that is over.", {
    retry: "never",
    fix,
    cause,
  });
}
