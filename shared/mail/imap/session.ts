/**
 * One logged-in IMAP connection, shared by all who need it. Callers take turns, so nobody finds another folder selected
 * than the one he asked for. Each turn ends with an answer, or with a deadline that cuts the connection.
 */
import type { Socket } from "node:net";
import type { ImapFlow, MailboxObject } from "imapflow";
import { unlessAborted } from "../../concurrency/abort.ts";
import { semaphore } from "../../concurrency/semaphore.ts";
import type { ServerFacts } from "../../contract/learned.ts";
import { Problem } from "../../contract/problem.ts";
import { withTimeout } from "../../time.ts";
import { withIdleTimeout } from "../net/idle-timeout.ts";
import { toServerFacts } from "../net/server-facts.ts";
import { toDisconnectProblem, toProblem, withWhere } from "../problems.ts";

const MINUTE = 60 * 1000;
/** Longer than any turn, including a large download over a slow network. */
const MAX_COMMAND_MS = 60 * MINUTE;

export interface Session {
  readonly client: ImapFlow;
  /** The next downloads are messages of up to so many bytes, as the server announced them. Much larger ones end the connection. */
  expectContent(bytes: number): void;
  readonly open: boolean;
  /** Aborts when the connection has ended. Its reason is the Problem that ended it. */
  readonly ended: AbortSignal;
  /** The server's prefix for the user's own folders, such as `INBOX.`; usually empty. */
  readonly personalPrefix: string;
  /** The server's name of a folder, which may not exist yet. For use within a turn: it asks the server. */
  resolvePath(folder: string): Promise<string>;
  /** The server's name of a folder that was opened over this session; otherwise the name as it is. */
  pathOf(folder: string): string;
  /** Counts the turns, so that a listener can tell who broke its IDLE. */
  readonly commandCount: number;
  /**
   * Uses the connection alone while `work` runs. The first command of `work` breaks a running IDLE. Throws a Problem,
   * or the signal's reason as soon as it aborts (the turn itself then ends in the background).
   */
  runExclusive<T>(what: string, work: () => Promise<T>, signal: AbortSignal, capMs?: number): Promise<T>;
  /**
   * As `runExclusive`, with a folder selected. Throws `folder` (retry never) if there is no such folder, or if the
   * server does not open it. With `current`, `work` sees what arrived since the folder was selected; without it, it may
   * not (RFC 9051 section 7: servers report when they like). `afresh` selects the folder again, because some servers
   * (Dovecot, Courier) keep showing an open folder as it was.
   */
  runInFolder<T>(
    folder: string,
    what: string,
    work: (box: MailboxObject) => Promise<T>,
    signal: AbortSignal,
    options?: { capMs?: number; afresh?: boolean; current?: boolean },
  ): Promise<T>;
  /** What the server said of itself. */
  describe(): ServerFacts;
  /** Ends the connection at once, with this reason. */
  destroy(problem: Problem): void;
  /** Logs out within 2 seconds, or cuts the connection. */
  close(): Promise<void>;
}

/**
 * What a session has of its connection. `quietMs` is how long the server may be silent while it owes an answer, and
 * `received` changes while it is not.
 */
type SessionOptions = {
  quietMs: number;
  secrets: readonly string[];
  where?: string;
  received: () => number;
  expectContent: (bytes: number) => void;
  socket: () => Socket;
};

/** Wraps a client that is logged in. */
export function createSession(client: ImapFlow, options: SessionOptions): Session {
  const { quietMs: idleMs, secrets, where, received, expectContent, socket } = options;
  const personalPrefix = takePersonalPrefix(client);
  const paths = new Map<string, string>();
  const ended = new AbortController();
  const facts = describeServer(client, socket(), secrets);
  let commandCount = 0;
  const turns = semaphore(1);

  const destroy = (problem: Problem) => {
    ended.abort(withWhere(problem, where));
    client.close();
  };
  client.on("error", (error) => destroy(toProblem(error, { step: "command", secrets, bye: client.byeReason, where })));
  client.on("close", () => ended.abort(toDisconnectProblem(client.byeReason, secrets, where)));
  const translateError = (error: unknown) =>
    ended.signal.aborted
      ? ended.signal.reason
      : toProblem(error, { step: "command", secrets, bye: client.byeReason, where });

  async function runCommand<T>(what: string, work: () => Promise<T>, signal: AbortSignal, capMs: number): Promise<T> {
    signal.throwIfAborted();
    if (ended.signal.aborted) throw ended.signal.reason;
    commandCount++;
    try {
      return await withIdleTimeout({ received, idleMs, maxMs: capMs }, what, work(), destroy);
    } catch (error) {
      throw translateError(error);
    }
  }

  async function runExclusive<T>(
    what: string,
    work: () => Promise<T>,
    signal: AbortSignal,
    capMs = 8 * idleMs,
  ): Promise<T> {
    const turn = await turns.acquire({ ms: MAX_COMMAND_MS }, signal);
    const result = runCommand(what, work, signal, capMs).finally(turn.release);
    return unlessAborted(result, signal);
  }

  const selectFolder = (folder: string, view: FolderView) =>
    select({ client, paths, personalPrefix, secrets }, folder, view);

  return {
    client,
    expectContent,
    ended: ended.signal,
    get open() {
      return client.usable && !ended.signal.aborted;
    },
    describe: () => facts,
    personalPrefix,
    resolvePath: async (folder) => paths.get(folder) ?? resolvePath(client, personalPrefix, folder),
    pathOf: (folder) => paths.get(folder) ?? folder,
    get commandCount() {
      return commandCount;
    },
    runExclusive,
    runInFolder(folder, what, work, signal, { capMs, afresh = false, current = false } = {}) {
      return runExclusive(what, async () => work(await selectFolder(folder, { afresh, current })), signal, capMs);
    },
    destroy,
    async close() {
      await logOut(client);
      ended.abort(new Problem("connect", "The connection was closed here"));
      client.close();
    },
  };
}

/** The name and version that it gave by ID (RFC 2971), else its greeting. */
function describeServer(client: ImapFlow, socket: Socket, secrets: readonly string[]): ServerFacts {
  const { name, version } = client.serverInfo ?? {};
  const words = [name, version].filter((part) => typeof part === "string" && part !== "").join(" ");
  const capabilities = client.capabilities.keys();
  return toServerFacts({ words: words || (client.greeting ?? ""), capabilities, socket }, secrets);
}

/**
 * The prefix of personal folders. The library puts it before every name, even of shared and public folders. From here
 * on, names are the server's own.
 */
function takePersonalPrefix(client: ImapFlow): string {
  const prefix = client.namespace?.prefix ?? "";
  if (client.namespace) client.namespace = { ...client.namespace, prefix: "" };
  return prefix;
}

/** Logs out within 2 seconds. Without an answer to LOGOUT nobody needs the connection any more either. */
async function logOut(client: ImapFlow): Promise<void> {
  if (client.usable) await withTimeout(2000, "Logging out", client.logout()).catch(() => undefined);
}

type FolderView = { afresh: boolean; current: boolean };
type Selecting = { client: ImapFlow; paths: Map<string, string>; personalPrefix: string; secrets: readonly string[] };

/** Selects the folder unless it is selected already. With `current` it then asks for new messages. */
async function select(
  { client, paths, personalPrefix, secrets }: Selecting,
  folder: string,
  view: FolderView,
): Promise<MailboxObject> {
  if (/[\r\n\0]/.test(folder)) throw noSuchFolder(folder);
  const path = paths.get(folder) ?? (await resolvePath(client, personalPrefix, folder));
  const selected = client.mailbox;
  if (selected && !view.afresh && samePath(selected.path, path)) {
    if (view.current) await client.noop();
    return selected;
  }
  try {
    const box = await client.mailboxOpen(path);
    paths.set(folder, path);
    await completeUidValidity(client, box);
    return box;
  } catch (error) {
    paths.delete(folder);
    if (error instanceof Error && Reflect.get(error, "mailboxMissing") === true) throw noSuchFolder(folder);
    throw toFolderProblem(error, folder, secrets);
  }
}

/** Only the name INBOX ignores case (RFC 3501 section 5.1). */
export function samePath(a: string, b: string): boolean {
  return a === b || (a.toUpperCase() === "INBOX" && b.toUpperCase() === "INBOX");
}

/**
 * The server's name for a folder that a mailbox names: with the prefix of the user's own folders if such a folder
 * exists, otherwise as it is (for shared and public folders).
 */
async function resolvePath(client: ImapFlow, prefix: string, folder: string): Promise<string> {
  if (prefix === "" || folder.startsWith(prefix) || folder.toUpperCase() === "INBOX") return folder;
  const { other, shared } = client.namespaces ?? {};
  const foreign = [other, shared].flatMap((one) => one || []);
  if (foreign.some((one) => one.prefix !== "" && folder.startsWith(one.prefix))) return folder;
  return (await folderExists(client, prefix + folder)) || !(await folderExists(client, folder))
    ? prefix + folder
    : folder;
}

/** Uses STATUS, which opens nothing. */
async function folderExists(client: ImapFlow, path: string): Promise<boolean> {
  try {
    return (await client.status(path, { uidValidity: true })) !== false;
  } catch (error) {
    if (error instanceof Error && Reflect.get(error, "code") === "NotFound") return false;
    throw error;
  }
}

/** SELECT may lack the UIDVALIDITY that STATUS reports. */
async function completeUidValidity(client: ImapFlow, box: MailboxObject): Promise<void> {
  const told: unknown = box.uidValidity;
  if (told !== undefined) return;
  const status = await client.status(box.path, { uidValidity: true });
  if (status && status.uidValidity !== undefined) box.uidValidity = status.uidValidity;
}

const ACCOUNT_CODES = new Set<Problem["code"]>(["throttled", "too_many_connections"]);
const FOR_NOW_FIX = "It is tried again. If the problem stays, ask the server's operator what these words mean.";
const REFUSED_FIX =
  "Give the login access to this folder, or choose another one; it is tried again every FOLDER_POLL_SECONDS.";

/**
 * A refused SELECT means that the server does not open this folder, unless its words concern the account. Words about
 * the login came after a login that was accepted. So they are no wrong password, and they pass like a fault of the server.
 */
function toFolderProblem(error: unknown, folder: string, secrets: readonly string[]): unknown {
  if (!isRefusal(error)) return error;
  const problem = toProblem(error, { step: "command", secrets });
  if (ACCOUNT_CODES.has(problem.code)) return problem;
  const { code, evidence } = problem;
  const passes = code === "unavailable" || code === "auth";
  return new Problem("folder", `The server does not open the folder ${JSON.stringify(folder)}`, {
    cause: error,
    retry: passes ? "later" : "never",
    fix: passes ? FOR_NOW_FIX : REFUSED_FIX,
    ...(evidence !== null && { evidence }),
  });
}

/** A tagged NO or BAD on a working connection that is no request to slow down. */
export function isRefusal(error: unknown): boolean {
  if (!(error instanceof Error) || Reflect.get(error, "code") === "ETHROTTLE") return false;
  return ["NO", "BAD"].includes(String(Reflect.get(error, "responseStatus")));
}

const MISSING = "There is no folder named";

function noSuchFolder(folder: string): Problem {
  return new Problem("folder", `${MISSING} ${JSON.stringify(folder)}`, { retry: "never" });
}

/** True if the server has no folder of that name; false if it does not open the folder. */
export function isMissingFolder({ code, message }: Problem): boolean {
  return code === "folder" && message.startsWith(MISSING);
}
