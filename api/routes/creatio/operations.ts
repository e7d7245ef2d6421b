/** What a CRM asks for about its mailboxes: subscribing, ending, states, trying out, folders, loading. Sending is in send.ts. */
import { Problem } from "../../../shared/contract/problem.ts";
import type { Folder } from "../../../shared/contract/message.ts";
import type { PreflightReport } from "../../../shared/mail/mail.ts";
import type { ApiDeps } from "../../deps.ts";
import { isRecord } from "../../http/field-errors.ts";
import { mailboxFrom } from "../../mailboxes.ts";
import { serviceStatus } from "../health.ts";
import { json } from "../../http/route.ts";
import { VISIT_MS } from "../../http/mail-problems.ts";
import { idOf, wholeMailbox } from "./credentials.ts";
import { sinceOf } from "./filters.ts";
import { guidOf, list, member, text, words } from "./members.ts";
import type { Operation } from "./paths.ts";
import { maskedText } from "./record.ts";
import { type How, register, unregister } from "./subscribe.ts";

export type Deps = Pick<
  ApiDeps,
  "config" | "version" | "store" | "tasks" | "facts" | "subscriptions" | "nodes" | "mail" | "crm"
>;
/** One request: its body as JSON, what its path says, and a signal that ends with it. */
export type Asked = { body: unknown; path: string; version2: boolean; signal: (ms: number) => AbortSignal };
type Answering = (deps: Deps, asked: Asked) => Response | Promise<Response>;

/** A CRM waits five minutes for every answer; most are given at once. */
const CALLBACK_MS = 30_000;
const DAY_MS = 24 * 3_600_000;
const AT_ONCE = 50;
/** The class of mail folders. */
const MAIL = "IPF.Note";
/** Where nothing real is needed as a callback: validating and listing folders deliver nothing. */
const NOWHERE = "http://localhost/ExchangeListenerService.svc";

export const OPERATIONS: Record<Exclude<Operation, "send">, Answering> = {
  status: (deps) => serviceStatus(deps),
  create: (deps, asked) => subscribe(deps, asked, "subscribe"),
  recreate: (deps, asked) => subscribe(deps, asked, "subscribe"),
  update: (deps, asked) => subscribe(deps, asked, "update"),
  close,
  state,
  validate,
  folders,
  synchronize,
  fetch: fetchAgain,
  available,
};

/** All of the list are tried, then the first failure is thrown. */
async function subscribe(deps: Deps, asked: Asked, how: How): Promise<Response> {
  const failures: unknown[] = [];
  for (const credentials of [asked.body].flat()) {
    try {
      await register(deps, credentials, how);
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
  return done();
}

async function close(deps: Deps, { body }: Asked): Promise<Response> {
  await unregister(deps, idsIn(body));
  return done();
}

/** `exists` from the moment a subscription is accepted, through every outage; unknown ids are left out. */
async function state({ store }: Deps, { body }: Asked): Promise<Response> {
  const ids = idsIn(body);
  const states: Record<string, { State: "exists"; Status: string; Problem: string | null }> = {};
  for (let start = 0; start < ids.length; start += AT_ONCE) {
    const batch = ids.slice(start, start + AT_ONCE);
    const found = await Promise.all(batch.map((id) => store.mailboxes.get(id)));
    for (const item of found) {
      if (item?.mailbox.deliver.creatio?.subscribed !== true || item.mailbox.deliver.dialect !== "creatio") continue;
      const { status, problem } = item.state;
      states[item.mailbox.id] = { State: "exists", Status: status, Problem: problem?.cause ?? null };
    }
  }
  return json(states);
}

function idsIn(body: unknown): string[] {
  const ids = Array.isArray(body) ? body : isRecord(body) ? Object.values(body).flat() : [body];
  return [...new Set(ids.map(guidOf).filter((id) => id !== undefined))];
}

/** Receiving only: the CRM tries sending by sending itself a message. */
async function validate(deps: Deps, { body, signal }: Asked): Promise<Response> {
  const mailbox = tentative(deps, body);
  const report = await deps.mail.preflight(mailbox, signal(VISIT_MS));
  if (!report.ok) return json({ IsValid: false, Message: failureIn(report), Data: null });
  const name = (await deps.store.mailboxes.get(mailbox.id))?.mailbox.name ?? mailbox.address;
  return json({ IsValid: true, Message: null, Data: JSON.stringify({ MailboxName: name }) });
}

function failureIn({ steps }: PreflightReport): string {
  const failed = steps.find((step) => !step.ok);
  return [failed?.cause, failed?.fix].filter(Boolean).join(". ") || "The mailbox cannot be used";
}

/** A mailbox that is never stored: whatever the CRM leaves out before it has saved one is filled in. */
function tentative({ config }: Deps, credentials: unknown) {
  const id = guidOf(member(credentials, "Id")) ?? "00000000-0000-0000-0000-000000000000";
  const given = isRecord(credentials) ? credentials : {};
  const whole = { ...given, Id: id, BpmEndpoint: text(credentials, "BpmEndpoint") ?? NOWHERE };
  return mailboxFrom(wholeMailbox(whole, { keyword: config.LISTENERS_KEYWORD, subscribed: false })).mailbox;
}

/**
 * Paths as ids (of Exchange folders those that the server gave them): they are what the mail server will still know tomorrow. Mail
 * folders unless the CRM asks for another class, which only Exchange has. Drafts are left out, for nobody receives them.
 */
async function folders(deps: Deps, { body, signal }: Asked): Promise<Response> {
  const wanted = text(body, "FolderClassName") || MAIL;
  const all = await deps.mail.folders(tentative(deps, body), signal(VISIT_MS));
  const ofClass = (folder: Folder) =>
    isClass(wanted, MAIL) ? folder.selectable : isClass(folder.class ?? MAIL, wanted);
  const shown = all.filter((folder) => ofClass(folder) && folder.specialUse !== "\\Drafts");
  return json(shown.map(({ path, parent, name }) => ({ Id: path, ParentId: parent ?? "", Name: name })));
}

/** Classes have subclasses, told by a dot. */
function isClass(name: string, wanted: string): boolean {
  return `${name}.`.toLowerCase().startsWith(`${wanted}.`.toLowerCase());
}

/**
 * Orders the load and answers: the order survives restarts and outages of the mail server. The mailbox may not be subscribed yet,
 * since a CRM subscribes and loads at the same time; then it is registered by these credentials.
 */
async function synchronize(deps: Deps, { body, path }: Asked): Promise<Response> {
  const credentials = member(body, "Credentials") ?? body;
  const now = new Date();
  const asked = sinceOf(body, now);
  if (asked === undefined) {
    const guess = `${deps.config.LISTENERS_LOAD_DAYS} days, no date in ${maskedText(words(body, "Filters") ?? "no Filters")}`;
    deps.facts.emit({ kind: "listeners.guessed", method: "POST", path, guess });
  }
  const since = asked ?? new Date(now.getTime() - deps.config.LISTENERS_LOAD_DAYS * DAY_MS);
  const { id } = await register(deps, credentials, "load");
  await deps.tasks.send({ version: 1, kind: "load", mailbox: id, since: since.toISOString(), messageIds: [] });
  return done();
}

/** Delivers messages again by their Message-IDs; the names of the members are not known, so any list of texts will do. */
async function fetchAgain(deps: Deps, { body }: Asked): Promise<Response> {
  const credentials = member(body, "Credentials") ?? body;
  const id = idOf(credentials);
  const found = await deps.store.mailboxes.get(id);
  if (found?.mailbox.deliver.dialect !== "creatio") {
    throw new Problem("not_found", "This mailbox is not subscribed, so there is no address to deliver to.", {
      retry: "never",
    });
  }
  const messageIds = Object.keys(isRecord(body) ? body : {})
    .filter((name) => !/folder/i.test(name))
    .flatMap((name) => list(body, name) ?? []);
  for (let start = 0; start < messageIds.length; start += 500) {
    const batch = messageIds.slice(start, start + 500);
    await deps.tasks.send({ version: 1, kind: "load", mailbox: id, since: null, messageIds: batch });
  }
  return done();
}

/** The CRM wants to know whether it can be reached from here, and compares with one word. */
async function available({ crm }: Deps, { body, signal }: Asked): Promise<Response> {
  const endpoint =
    typeof body === "string" ? body : Object.values(isRecord(body) ? body : {}).find((v) => typeof v === "string");
  if (typeof endpoint !== "string" || !/^https?:\/\//i.test(endpoint) || !URL.canParse(endpoint)) {
    return plainText("This is no address of a CRM");
  }
  const { ok, reason } = await crm.probe(endpoint, signal(CALLBACK_MS));
  return plainText(ok ? "Pong" : reason);
}

/** Text as it is, without JSON's quotes. */
export function plainText(said: string, status = 200): Response {
  return new Response(said, {
    status,
    headers: { "content-type": "text/plain; charset=utf-8", "cache-control": "no-store" },
  });
}

function done(): Response {
  return plainText("");
}
