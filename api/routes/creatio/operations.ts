/**
 * The operations that a CRM calls for its mailboxes: subscribe, close, states, validate, folders, load. send.ts has
 * sending.
 */
import { Problem } from "../../../shared/contract/problem.ts";
import { bracketUrl } from "../../../shared/contract/url.ts";
import type { Mailbox } from "../../../shared/contract/mailbox.ts";
import type { Folder } from "../../../shared/contract/message.ts";
import type { ApiDeps } from "../../deps.ts";
import { isRecord } from "../../http/field-errors.ts";
import { mailboxFromInput } from "../../mailboxes.ts";
import { statusResponse } from "../health.ts";
import { jsonResponse } from "../../http/route.ts";
import { MAIL_TIMEOUT_MS } from "../../http/mail-problems.ts";
import { idOf, mailboxInputFrom } from "./credentials.ts";
import { sinceOf } from "./filters.ts";
import { parseGuid, textList, getMember, text, rawText } from "./members.ts";
import type { CrmActor } from "./access.ts";
import type { Operation } from "./paths.ts";
import { maskText } from "./record.ts";
import { type RegisterMode, register, unregister } from "./subscribe.ts";

export type CreatioDeps = Pick<
  ApiDeps,
  "config" | "version" | "store" | "tasks" | "facts" | "subscriptions" | "nodes" | "mail" | "crm" | "logins"
>;
/** One request: its body as JSON, what its path says, who calls, and a signal that ends with it. */
export type CreatioRequest = {
  body: unknown;
  path: string;
  version2: boolean;
  actor: CrmActor;
  signal: (ms: number) => AbortSignal;
};
type OperationHandler = (deps: CreatioDeps, asked: CreatioRequest) => Response | Promise<Response>;

/** A CRM waits five minutes for every answer. Most answers come at once. */
const PROBE_TIMEOUT_MS = 30_000;
const DAY_MS = 24 * 3_600_000;
const BATCH_SIZE = 50;
/** The class of mail folders. */
const MAIL_FOLDER_CLASS = "IPF.Note";
/** Used if no real callback URL is needed: validating and listing folders deliver nothing. */
const PLACEHOLDER_URL = "http://localhost/ExchangeListenerService.svc";

export const OPERATIONS: Record<Exclude<Operation, "send">, OperationHandler> = {
  status: (deps) => statusResponse(deps),
  create: (deps, asked) => subscribe(deps, asked, "subscribe"),
  recreate: (deps, asked) => subscribe(deps, asked, "subscribe"),
  update: (deps, asked) => subscribe(deps, asked, "update"),
  close,
  state,
  validate,
  folders,
  synchronize,
  fetch: refetch,
  available: checkAvailable,
};

/** Tries all of the list, then throws the first failure. */
async function subscribe(deps: CreatioDeps, asked: CreatioRequest, how: RegisterMode): Promise<Response> {
  const failures: unknown[] = [];
  for (const credentials of [asked.body].flat()) {
    try {
      await register(deps, credentials, how);
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
  return emptyResponse();
}

async function close(deps: CreatioDeps, { body }: CreatioRequest): Promise<Response> {
  await unregister(deps, idsIn(body));
  return emptyResponse();
}

/** `exists` from the moment a subscription is accepted, during every outage. Unknown ids are left out. */
async function state({ store }: CreatioDeps, { body }: CreatioRequest): Promise<Response> {
  const ids = idsIn(body);
  const states: Record<string, { State: "exists"; Status: string; Problem: string | null }> = {};
  for (let start = 0; start < ids.length; start += BATCH_SIZE) {
    const batch = ids.slice(start, start + BATCH_SIZE);
    const found = await Promise.all(batch.map((id) => store.mailboxes.get(id)));
    for (const item of found) {
      if (item?.mailbox.deliver.creatio?.subscribed !== true || item.mailbox.deliver.dialect !== "creatio") continue;
      const { status, problem } = item.state;
      states[item.mailbox.id] = { State: "exists", Status: status, Problem: problem?.cause ?? null };
    }
  }
  return jsonResponse(states);
}

function idsIn(body: unknown): string[] {
  const ids = Array.isArray(body) ? body : isRecord(body) ? Object.values(body).flat() : [body];
  return [...new Set(ids.map(parseGuid).filter((id) => id !== undefined))];
}

/**
 * Tries receiving only. The CRM tries sending by sending itself a message, and its credentials may come without the address
 * that it wants its mail at.
 */
async function validate(deps: CreatioDeps, { body, signal }: CreatioRequest): Promise<Response> {
  const mailbox = readUnsaved(deps, body);
  if (mailbox instanceof Problem) return jsonResponse({ IsValid: false, Message: mailbox.message, Data: null });
  const report = await deps.mail.preflight(mailbox, signal(MAIL_TIMEOUT_MS));
  const failed = report.steps.find(({ name, ok }) => !ok && name !== "deliver");
  if (failed)
    return jsonResponse({ IsValid: false, Message: [failed.cause, failed.fix].filter(Boolean).join(". "), Data: null });
  const name = (await deps.store.mailboxes.get(mailbox.id))?.mailbox.name ?? mailbox.address;
  return jsonResponse({ IsValid: true, Message: null, Data: JSON.stringify({ MailboxName: name }) });
}

/**
 * The mailbox, or the Problem with the credentials. The person who types them reads it, and the CRM shows no other
 * answer.
 */
function readUnsaved(deps: CreatioDeps, body: unknown): Mailbox | Problem {
  try {
    return unsavedMailbox(deps, body);
  } catch (error) {
    if (error instanceof Problem && error.code === "invalid") return error;
    throw error;
  }
}

/** A mailbox that is never stored. Whatever the CRM has not yet saved is filled in. */
function unsavedMailbox({ config }: CreatioDeps, credentials: unknown) {
  const id = parseGuid(getMember(credentials, "Id")) ?? "00000000-0000-0000-0000-000000000000";
  const given = isRecord(credentials) ? credentials : {};
  const whole = { ...given, Id: id, BpmEndpoint: text(credentials, "BpmEndpoint") ?? PLACEHOLDER_URL };
  return mailboxFromInput(mailboxInputFrom(whole, { keyword: config.CRM_KEYWORD, subscribed: false })).mailbox;
}

/**
 * The ids are the paths (for Exchange the server's own ids), because the mail server will still know them tomorrow. It
 * lists mail folders, unless the CRM asks for another class, which only Exchange has. Drafts are left out, because
 * nobody receives them.
 */
async function folders(deps: CreatioDeps, { body, signal }: CreatioRequest): Promise<Response> {
  const wanted = text(body, "FolderClassName") || MAIL_FOLDER_CLASS;
  const all = await deps.mail.listFolders(unsavedMailbox(deps, body), signal(MAIL_TIMEOUT_MS));
  const ofClass = (folder: Folder) =>
    isClass(wanted, MAIL_FOLDER_CLASS) ? folder.selectable : isClass(folder.class ?? MAIL_FOLDER_CLASS, wanted);
  const shown = all.filter((folder) => ofClass(folder) && folder.specialUse !== "\\Drafts");
  return jsonResponse(shown.map(({ path, parent, name }) => ({ Id: path, ParentId: parent ?? "", Name: name })));
}

/** A class has subclasses after a dot. */
function isClass(name: string, wanted: string): boolean {
  return `${name}.`.toLowerCase().startsWith(`${wanted}.`.toLowerCase());
}

/**
 * Sends a `synchronize` task and answers. The task survives restarts and outages of the mail server. The mailbox may
 * not be subscribed yet, because a CRM subscribes and loads at the same time; then it is registered with these
 * credentials.
 */
async function synchronize(deps: CreatioDeps, { body, path }: CreatioRequest): Promise<Response> {
  const credentials = getMember(body, "Credentials") ?? body;
  const now = new Date();
  const requested = sinceOf(body, now);
  if (requested === undefined) {
    const guess = `${deps.config.CRM_LOAD_DAYS} days, no date in ${maskText(rawText(body, "Filters") ?? "no Filters")}`;
    deps.facts.emit({ kind: "creatio.request_guessed", method: "POST", path, guess });
  }
  const since = requested ?? new Date(now.getTime() - deps.config.CRM_LOAD_DAYS * DAY_MS);
  const { id } = await register(deps, credentials, "load");
  await deps.tasks.send({ version: 1, kind: "synchronize", mailbox: id, since: since.toISOString(), messageIds: [] });
  return emptyResponse();
}

/**
 * Delivers messages again by their Message-IDs. The names of the members are not known, so any list of texts counts.
 */
async function refetch(deps: CreatioDeps, { body }: CreatioRequest): Promise<Response> {
  const credentials = getMember(body, "Credentials") ?? body;
  const id = idOf(credentials);
  const found = await deps.store.mailboxes.get(id);
  if (found?.mailbox.deliver.dialect !== "creatio") {
    throw new Problem("not_found", "This mailbox is not subscribed, so there is no address to deliver to.", {
      retry: "never",
    });
  }
  const messageIds = Object.keys(isRecord(body) ? body : {})
    .filter((name) => !/folder/i.test(name))
    .flatMap((name) => textList(body, name) ?? []);
  for (let start = 0; start < messageIds.length; start += 500) {
    const batch = messageIds.slice(start, start + 500);
    await deps.tasks.send({ version: 1, kind: "synchronize", mailbox: id, since: null, messageIds: batch });
  }
  return emptyResponse();
}

/** The CRM asks whether the service can reach it, and compares the answer with one word. */
async function checkAvailable({ crm }: CreatioDeps, { body, signal }: CreatioRequest): Promise<Response> {
  const given =
    typeof body === "string" ? body : Object.values(isRecord(body) ? body : {}).find((v) => typeof v === "string");
  const endpoint = typeof given === "string" ? bracketUrl(given) : "";
  if (!/^https?:\/\//i.test(endpoint) || !URL.canParse(endpoint)) {
    return textResponse("This is not the address of a CRM");
  }
  const { ok, reason } = await crm.probe(endpoint, signal(PROBE_TIMEOUT_MS));
  return textResponse(ok ? "Pong" : reason);
}

/** Text as it is, without JSON's quotes. */
export function textResponse(content: string, status = 200): Response {
  return new Response(content, {
    status,
    headers: { "content-type": "text/plain; charset=utf-8", "cache-control": "no-store" },
  });
}

function emptyResponse(): Response {
  return textResponse("");
}
