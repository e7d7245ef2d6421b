/** One logged-in POP3 session (RFC 1939): its commands, each with a deadline. Only `quit` commits deletions. */
import { setImmediate } from "node:timers/promises";
import type { ServerFacts } from "../../contract/learned.ts";
import { Problem } from "../../contract/problem.ts";
import { maxContentBytes } from "../net/excess.ts";
import {
  MAX_LIST_BYTES,
  type Pop3Connection,
  readBlock,
  readReply,
  readResponse,
  readWithTimeout,
  sendCommand,
} from "./response.ts";
import { singleAsker } from "./single.ts";

/** The answer to one command of several: the block, or the refusal. */
export type CommandResult = { block: Buffer } | { refused: Problem };

export interface Session {
  readonly capabilities: ReadonlyMap<string, string>;
  /** What the server said of itself. */
  readonly facts: ServerFacts;
  readonly open: boolean;
  /** How many messages the maildrop has; undefined if the server does not say it. */
  count(): Promise<number | undefined>;
  /** Number and size in bytes of each message. */
  list(): Promise<Map<number, number>>;
  /**
   * Number and unique id of each message; undefined if the server has none. Throws if the server says that it has ids
   * and refuses to list them now.
   */
  uidl(): Promise<Map<number, string> | undefined>;
  /** The unique ids of these messages, asked for one by one, in their order. */
  uidlsOf(numbers: readonly number[]): Promise<(string | undefined)[]>;
  /** The size of one message in bytes; undefined if the server does not say it. */
  sizeOf(number: number): Promise<number | undefined>;
  /** The headers of these messages, in their order. A refusal of one does not stop the others. */
  fetchHeaders(numbers: readonly number[]): AsyncGenerator<CommandResult, void, undefined>;
  /** The messages, in the same way as `fetchHeaders`. `size` is what the server announced. */
  fetchMessages(messages: readonly { number: number; size: number }[]): AsyncGenerator<CommandResult, void, undefined>;
  /** Marks messages for deletion. Nothing is deleted before `quit`. Resolves with a refusal, if there is one. */
  dele(numbers: readonly number[]): Promise<Problem | undefined>;
  /** Ends the session and commits its deletions. Throws if the server did not confirm that. */
  quit(): Promise<void>;
  /** Ends the connection at once. Nothing is deleted (RFC 1939 section 6). */
  destroy(problem: Problem): void;
}

type Commands = Omit<Session, "facts">;

/** An id has at most 70 characters (RFC 1939 section 7), and arrivals since LIST may be among them. */
const MAX_ID_ROW_BYTES = 100;
const MIN_IDS_BYTES = 256 * 1024;
const MAX_HEADER_BYTES = 4 * 1024 * 1024;
const MAX_CAPABILITY_BYTES = 32 * 1024;
/** So many rows are read before the process does other things. */
const ROWS_AT_ONCE = 2_000;
/** Commands that are sent together if the server allows it (RFC 2449 section 6.6). */
const PIPELINE_BATCH = 50;
const QUIT_MS = 10_000;
const LF = 10;
const UNKNOWN_COMMAND =
  /\b(un(known|recogni[sz]ed|supported|implemented)|not (known|recogni[sz]ed|supported|implemented)|invalid)\b/i;

/** The capabilities with their arguments (RFC 2449); none if the server does not know CAPA. */
export async function getCapabilities(connection: Pop3Connection): Promise<Map<string, string>> {
  try {
    await sendCommand(connection, "CAPA");
  } catch (error) {
    if (connection.stream.ended.aborted) throw error;
    return new Map();
  }
  const block = await readWithTimeout(connection, "CAPA", () => connection.stream.readBlock(MAX_CAPABILITY_BYTES));
  const words = splitRows(block).map((row) => /^(\S+)\s*(.*)/.exec(row));
  return new Map(words.flatMap((found) => (found?.[1] ? [[found[1].toUpperCase(), found[2] ?? ""]] : [])));
}

/** The commands of a session that is logged in. */
export function createSession(connection: Pop3Connection, capabilities: ReadonlyMap<string, string>): Commands {
  const { stream } = connection;
  const batchSize = capabilities.has("PIPELINING") ? PIPELINE_BATCH : 1;
  let ended = false;
  let listed: number | undefined;

  const readTable = async (command: string, maxBytes = MAX_LIST_BYTES) => {
    await sendCommand(connection, command);
    return parseNumberedRows(await readBlock(connection, command, maxBytes));
  };
  const askFor = singleAsker(connection, batchSize);
  const fetchBlocks = (commands: Command[]) => pipeline(connection, commands, batchSize);

  return {
    capabilities,
    get open() {
      return !ended && !stream.ended.aborted;
    },
    count: () => countMessages(connection),
    async list() {
      const rows = await readTable("LIST");
      listed = rows.length;
      return new Map(rows.map(([number, rest]) => [number, Math.max(0, Number.parseInt(rest, 10) || 0)]));
    },
    async uidl() {
      try {
        const maxBytes = listed === undefined ? MAX_LIST_BYTES : MIN_IDS_BYTES + listed * MAX_ID_ROW_BYTES;
        return new Map(await readTable("UIDL", maxBytes));
      } catch (error) {
        if (stream.ended.aborted || !(error instanceof Problem) || error.code !== "protocol") throw error;
        if (capabilities.has("UIDL") && !UNKNOWN_COMMAND.test(error.evidence ?? "")) throw error;
        return undefined;
      }
    },
    uidlsOf: (numbers) => askFor("UIDL", numbers),
    async sizeOf(number) {
      const [answer = ""] = await askFor("LIST", [number]);
      const size = Number.parseInt(answer, 10);
      return size >= 0 ? size : undefined;
    },
    fetchHeaders: (numbers) =>
      fetchBlocks(numbers.map((number) => ({ text: `TOP ${number} 0`, maxBytes: MAX_HEADER_BYTES }))),
    fetchMessages: (messages) =>
      fetchBlocks(messages.map(({ number, size }) => ({ text: `RETR ${number}`, maxBytes: maxContentBytes(size) }))),
    async dele(numbers) {
      let refusal: Problem | undefined;
      for (let start = 0; start < numbers.length; start += batchSize) {
        const some = numbers.slice(start, start + batchSize);
        stream.send(some.map((number) => `DELE ${number}\r\n`).join(""));
        for (const _ of some) {
          const reply = await readReply(connection, "DELE");
          if (reply instanceof Problem) refusal = reply;
        }
      }
      return refusal;
    },
    async quit() {
      ended = true;
      try {
        stream.send("QUIT\r\n");
        await readResponse({ ...connection, idleMs: Math.min(connection.idleMs, QUIT_MS) }, "QUIT");
      } finally {
        stream.destroy(new Problem("connect", "The session was ended here"));
      }
    },
    destroy(problem) {
      ended = true;
      stream.destroy(problem);
    },
  };
}

async function countMessages(connection: Pop3Connection): Promise<number | undefined> {
  const answer = await sendCommand(connection, "STAT").catch((error: unknown) => {
    if (connection.stream.ended.aborted) throw error;
    return "";
  });
  const count = Number.parseInt(answer, 10);
  return count >= 0 ? count : undefined;
}

/** A command, and how large its block may be. */
type Command = { text: string; maxBytes: number };

/** Sends commands in batches and reads the answer to each, a block or a refusal, in their order. */
async function* pipeline(
  connection: Pop3Connection,
  commands: Command[],
  batchSize: number,
): AsyncGenerator<CommandResult, void, undefined> {
  const { stream } = connection;
  let pending = 0;
  try {
    for (let start = 0; start < commands.length; start += batchSize) {
      const batch = commands.slice(start, start + batchSize);
      stream.send(batch.map(({ text }) => `${text}\r\n`).join(""));
      pending = batch.length;
      for (const { text, maxBytes } of batch) {
        const result = await readResult(connection, text.split(" ")[0] ?? "", maxBytes);
        pending -= 1;
        yield result;
      }
    }
  } finally {
    // Unread answers would be taken for answers to the next command.
    if (pending > 0) stream.destroy(new Problem("connect", "The session was left in the middle of an answer"));
  }
}

async function readResult(connection: Pop3Connection, what: string, maxBytes: number): Promise<CommandResult> {
  const reply = await readReply(connection, what);
  return reply instanceof Problem ? { refused: reply } : { block: await readBlock(connection, what, maxBytes) };
}

function splitRows(block: Buffer): string[] {
  return block
    .toString("latin1")
    .split(/\r?\n/)
    .filter((row) => row !== "");
}

/** `1 120` or `1 whqtswO00WBw418f9t5JxYwZ`: a message number and a value. Other rows are ignored. */
async function parseNumberedRows(block: Buffer): Promise<[number, string][]> {
  const rows: [number, string][] = [];
  for (let at = 0, count = 1; at < block.length; count++) {
    const end = block.indexOf(LF, at);
    const row = block.toString("latin1", at, end < 0 ? block.length : end);
    const [, number = "", rest = ""] = /^(\d{1,9})\s+(\S+)/.exec(row) ?? [];
    if (number !== "") rows.push([Number(number), rest]);
    at = end < 0 ? block.length : end + 1;
    if (count % ROWS_AT_ONCE === 0) await setImmediate();
  }
  return rows;
}
