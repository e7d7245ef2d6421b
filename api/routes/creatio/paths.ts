/**
 * Which operation a CRM of the Creatio family means: the one table of paths, and what is done with a path that it lacks. Only
 * `status` is certain; a recorded run of a real CRM (LISTENERS_RECORD) says what to correct here.
 */
import { isRecord } from "../../http/field-errors.ts";
import { guidOf, member } from "./members.ts";

export type Operation =
  | "status"
  | "create"
  | "recreate"
  | "update"
  | "close"
  | "state"
  | "validate"
  | "folders"
  | "send"
  | "synchronize"
  | "fetch"
  | "available";

/** Last segments, without case, dashes and underscores. GET knows `status` only. */
const NAMES: Record<Exclude<Operation, "status">, readonly string[]> = {
  create: ["create", "start", "subscribe"],
  recreate: ["recreate", "restart", "resubscribe"],
  update: ["update", "updatecredentials", "updatetoken"],
  close: ["close", "stop", "delete", "unsubscribe"],
  state: ["subscriptionsstate", "state", "states", "subscriptions", "subscriptionstate", "status"],
  validate: ["validate", "validatecredentials"],
  folders: ["folders", "mailboxfolders", "getallmailboxfolders", "allmailboxfolders"],
  send: ["send", "sendemail", "sendemails"],
  synchronize: ["synchronize", "synchronizeemails", "syncemails", "sync", "load", "loademails"],
  fetch: ["fetch", "fetchemails"],
  available: ["applicationavailable", "available", "appavailable", "ping"],
};
const STATUS = ["status", "exists", "listeners"];

/** Words in a path that name an operation when its last segment is not in the table; the first that is found counts. */
const WORDS: readonly (readonly [RegExp, Operation])[] = [
  [/folder/, "folders"],
  [/send/, "send"],
  [/fetch/, "fetch"],
  [/avail|ping/, "available"],
  [/sync|load/, "synchronize"],
];

/** A path that belongs to the CRM dialect. `segment` is the secret part of it where LISTENERS_ACCESS asks for one. */
export type ListenerPath = { words: string[]; segment: string | undefined; version2: boolean };

/**
 * Reads a path below the base: `/api/...` except `/api/v1`, or the same behind one segment or with one after `listeners`.
 * Undefined when it is none of the CRM's.
 */
export function listenerPath(path: string, search = ""): ListenerPath | undefined {
  const parts = path.split("/").filter(Boolean);
  const words = parts.map((part) => part.toLowerCase().replace(/[-_]/g, ""));
  const at = words[0] === "api" ? 0 : words[1] === "api" ? 1 : -1;
  if (at < 0 || words[at + 1] === "v1") return undefined;
  const version2 = words.slice(at).some((word) => /^v?2(\.0)?$/.test(word)) || /[=&]v?2(\.0)?(&|$)/i.test(search);
  const rest = words.slice(at);
  if (at === 1) return { words: rest, segment: parts[0], version2 };
  // Behind `listeners` the segment is whatever stands between it and the operation.
  const inside = rest[1] === "listeners" && rest.length > 2 && !isKnown(rest[2] ?? "") ? parts[2] : undefined;
  return { words: rest, segment: inside, version2 };
}

const isKnown = (word: string) => STATUS.includes(word) || Object.values(NAMES).some((names) => names.includes(word));

/** The operation that method and path name for certain, or `undefined`. */
export function namedOperation(method: string, { words, segment }: ListenerPath): Operation | undefined {
  const last = words.at(-1) ?? "";
  if (method === "GET" || method === "HEAD") {
    const bare = words.length === 3 && words[1] === "listeners" && segment !== undefined;
    return STATUS.includes(last) || bare ? "status" : undefined;
  }
  if (method !== "POST") return undefined;
  for (const [operation, names] of Object.entries(NAMES))
    if (names.includes(last) && isOperation(operation)) return operation;
  return undefined;
}

function isOperation(name: string): name is Exclude<Operation, "status"> {
  return name in NAMES;
}

/**
 * What a POST to an unknown path means by the words in its path, else by the shape of its body. Never `close` by the shape: a list
 * of ids closes only where the path says so.
 */
export function guessedOperation({ words }: ListenerPath, body: unknown): Operation | undefined {
  const path = words.slice(1).join("/");
  const said = WORDS.find(([pattern]) => pattern.test(path))?.[1];
  if (said) return said;
  if (typeof body === "string") return "available";
  if (Array.isArray(body)) return ofList(path, body);
  if (!isRecord(body)) return undefined;
  if (member(body, "Email") !== undefined) return "send";
  if (member(body, "Filters") !== undefined) return "synchronize";
  if (member(body, "Credentials") !== undefined && Object.values(body).some(Array.isArray)) return "fetch";
  const credentials = member(body, "SenderEmailAddress") !== undefined || member(body, "UserName") !== undefined;
  return credentials ? "validate" : undefined;
}

function ofList(path: string, list: unknown[]): Operation | undefined {
  if (list.every((item) => guidOf(item) !== undefined)) return /close|stop|delete/.test(path) ? "close" : "state";
  if (!list.every(isRecord)) return undefined;
  if (/recreate/.test(path)) return "recreate";
  return /update/.test(path) ? "update" : "create";
}
