/**
 * Which operation a CRM of the Creatio family means: the one table of paths, and how an unknown path is guessed. Only
 * `status` is certain. A recorded run of a real CRM (CRM_RECORD) shows what to correct here.
 */
import { isRecord } from "../../http/field-errors.ts";
import { parseGuid, getMember } from "./members.ts";

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

/** The last segments, in lower case, without dashes and underscores. GET has only `status`. */
const OPERATION_NAMES: Record<Exclude<Operation, "status">, readonly string[]> = {
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
const STATUS_NAMES = ["status", "exists", "listeners"];

/** Words in a path that name an operation if its last segment is not in the table. The first match counts. */
const PATH_PATTERNS: readonly (readonly [RegExp, Operation])[] = [
  [/folder/, "folders"],
  [/send/, "send"],
  [/fetch/, "fetch"],
  [/avail|ping/, "available"],
  [/sync|load/, "synchronize"],
];

/** A path of the CRM dialect. `segment` is its secret part, if CRM_ACCESS asks for one. */
export type ListenerPath = { words: string[]; segment: string | undefined; version2: boolean };

/**
 * Reads a path below the base: `/api/...` except `/api/v1`, or the same after one segment, or with one after
 * `listeners`. Undefined when it is no path of a CRM.
 */
export function parseListenerPath(path: string, search = ""): ListenerPath | undefined {
  const parts = path.split("/").filter(Boolean);
  const words = parts.map((part) => part.toLowerCase().replace(/[-_]/g, ""));
  const at = words[0] === "api" ? 0 : words[1] === "api" ? 1 : -1;
  if (at < 0 || words[at + 1] === "v1") return undefined;
  const version2 = words.slice(at).some((word) => /^v?2(\.0)?$/.test(word)) || /[=&]v?2(\.0)?(&|$)/i.test(search);
  const rest = words.slice(at);
  if (at === 1) return { words: rest, segment: parts[0], version2 };
  // After `listeners`, the segment is whatever stands between it and the operation.
  const secretSegment =
    rest[1] === "listeners" && rest.length > 2 && !isOperationName(rest[2] ?? "") ? parts[2] : undefined;
  return { words: rest, segment: secretSegment, version2 };
}

const isOperationName = (word: string) =>
  STATUS_NAMES.includes(word) || Object.values(OPERATION_NAMES).some((names) => names.includes(word));

/** The operation that method and path certainly name; undefined if there is none. */
export function findOperation(method: string, { words, segment }: ListenerPath): Operation | undefined {
  const last = words.at(-1) ?? "";
  if (method === "GET" || method === "HEAD") {
    const bare = words.length === 3 && words[1] === "listeners" && segment !== undefined;
    return STATUS_NAMES.includes(last) || bare ? "status" : undefined;
  }
  if (method !== "POST") return undefined;
  for (const [operation, names] of Object.entries(OPERATION_NAMES))
    if (names.includes(last) && isOperation(operation)) return operation;
  return undefined;
}

function isOperation(name: string): name is Exclude<Operation, "status"> {
  return name in OPERATION_NAMES;
}

/**
 * What a POST to an unknown path means: by the words in its path, else by the shape of its body. The shape alone never
 * means `close`: a list of ids closes only if the path says so.
 */
export function guessOperation({ words }: ListenerPath, body: unknown): Operation | undefined {
  const path = words.slice(1).join("/");
  const byPath = PATH_PATTERNS.find(([pattern]) => pattern.test(path))?.[1];
  if (byPath) return byPath;
  if (typeof body === "string") return "available";
  if (Array.isArray(body)) return guessFromList(path, body);
  if (!isRecord(body)) return undefined;
  if (getMember(body, "Email") !== undefined) return "send";
  if (getMember(body, "Filters") !== undefined) return "synchronize";
  if (getMember(body, "Credentials") !== undefined && Object.values(body).some(Array.isArray)) return "fetch";
  const credentials = getMember(body, "SenderEmailAddress") !== undefined || getMember(body, "UserName") !== undefined;
  return credentials ? "validate" : undefined;
}

function guessFromList(path: string, list: unknown[]): Operation | undefined {
  if (list.every((item) => parseGuid(item) !== undefined)) return /close|stop|delete/.test(path) ? "close" : "state";
  if (!list.every(isRecord)) return undefined;
  if (/recreate/.test(path)) return "recreate";
  return /update/.test(path) ? "update" : "create";
}
