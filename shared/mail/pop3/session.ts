/** One logged-in POP3 session (RFC 1939): its commands, each with a deadline. What it deletes is deleted by `quit` alone. */
import { Problem } from "../../contract/problem.ts";
import { patiently } from "../net/idle-timeout.ts";
import { problemOf, type Step } from "../problems.ts";
import type { Line } from "./stream.ts";

/** What a server said to one command of several: the block, or why it was refused. */
export type Said = { block: Buffer } | { refused: Problem };

export interface Session {
  readonly capabilities: ReadonlyMap<string, string>;
  readonly open: boolean;
  /** Number and size in bytes of each message. */
  list(): Promise<Map<number, number>>;
  /** Number and unique id of each message; undefined when the server knows none. */
  uidl(): Promise<Map<number, string> | undefined>;
  /** The headers of these messages, in their order. A refusal of one does not keep the others back. */
  heads(numbers: readonly number[]): AsyncGenerator<Said, void, undefined>;
  /** The messages, in their order, as `heads`. */
  messages(numbers: readonly number[]): AsyncGenerator<Said, void, undefined>;
  /** Marks for deletion; nothing is deleted before `quit`. */
  dele(numbers: readonly number[]): Promise<void>;
  /** Ends the session and commits its deletions; throws when the server did not confirm that. */
  quit(): Promise<void>;
  /** Ends the connection at once: nothing is deleted (RFC 1939 section 6). */
  cut(problem: Problem): void;
}

export type Talk = {
  line: Line;
  /** How long the server may be silent. */
  quietMs: number;
  secrets: readonly string[];
};

const MIB = 1024 * 1024;
export const LARGEST_MESSAGE = 256 * MIB;
const LARGEST_LIST = 64 * MIB;
const LARGEST_HEAD = 4 * MIB;
const DOWNLOAD_CAP_MS = 30 * 60 * 1000;
/** Commands sent together where the server allows it (RFC 2449 section 6.6). */
const TOGETHER = 50;
const QUIT_MS = 10_000;

/** Sends a command and resolves with the server's words after `+OK`; throws the Problem that `-ERR` means at this step. */
export async function ask(talk: Talk, command: string, step: Step = "command"): Promise<string> {
  talk.line.send(`${command}\r\n`);
  return answer(talk, command.split(" ")[0] ?? "", step);
}

/** Waits for the answer to something that was sent. */
export async function answer(talk: Talk, what: string, step: Step = "command"): Promise<string> {
  const said = await heard(talk, what, () => talk.line.line());
  if (/^\+OK\b/i.test(said)) return said.slice(3).trim();
  if (/^\+( |$)/.test(said)) return said.slice(1).trim();
  if (/^-ERR\b/i.test(said)) throw refusal(said.slice(4).trim(), talk.secrets, step);
  const strange = new Problem("protocol", `The server answered ${what} with something that is not POP3`);
  talk.line.cut(strange);
  throw strange;
}

async function heard<T>(talk: Talk, what: string, read: () => Promise<T>, capMs = 8 * talk.quietMs): Promise<T> {
  const received = () => talk.line.received;
  return patiently({ received, quietMs: talk.quietMs, capMs }, what, read(), talk.line.cut);
}

function refusal(words: string, secrets: readonly string[], step: Step): Problem {
  const error = Object.assign(new Error("Refused"), { responseStatus: "NO", responseText: words || "no reason given" });
  return problemOf(error, { step, secrets });
}

/** The capabilities with their arguments (RFC 2449); none where the server does not know CAPA. */
export async function capabilitiesOf(talk: Talk): Promise<Map<string, string>> {
  try {
    await ask(talk, "CAPA");
  } catch (error) {
    if (talk.line.ended.aborted) throw error;
    return new Map();
  }
  const block = await heard(talk, "CAPA", () => talk.line.block(LARGEST_HEAD));
  const words = rowsOf(block).map((row) => /^(\S+)\s*(.*)$/.exec(row));
  return new Map(words.flatMap((found) => (found?.[1] ? [[found[1].toUpperCase(), found[2] ?? ""]] : [])));
}

/** The commands of a session that is logged in. */
export function sessionOver(talk: Talk, capabilities: ReadonlyMap<string, string>): Session {
  const { line } = talk;
  const together = capabilities.has("PIPELINING") ? TOGETHER : 1;
  let over = false;

  const block = (what: string, most: number) => heard(talk, what, () => line.block(most), DOWNLOAD_CAP_MS);
  const table = async (command: string) => {
    await ask(talk, command);
    return numberedRows(await block(command, LARGEST_LIST));
  };

  async function* each(commands: string[], most: number): AsyncGenerator<Said, void, undefined> {
    let waiting = 0;
    try {
      for (let start = 0; start < commands.length; start += together) {
        const some = commands.slice(start, start + together);
        line.send(some.map((command) => `${command}\r\n`).join(""));
        waiting = some.length;
        for (const command of some) {
          const one = await said(command.split(" ")[0] ?? "", most);
          waiting -= 1;
          yield one;
        }
      }
    } finally {
      // Answers that nobody reads would be taken for those of the next command.
      if (waiting > 0) line.cut(new Problem("connect", "The session was left in the middle of an answer"));
    }
  }

  async function said(what: string, most: number): Promise<Said> {
    try {
      await answer(talk, what);
    } catch (error) {
      if (line.ended.aborted || !(error instanceof Problem)) throw error;
      return { refused: error };
    }
    return { block: await block(what, most) };
  }

  return {
    capabilities,
    get open() {
      return !over && !line.ended.aborted;
    },
    async list() {
      const rows = await table("LIST");
      return new Map(rows.map(([number, rest]) => [number, Math.max(0, Number.parseInt(rest, 10) || 0)]));
    },
    async uidl() {
      try {
        return new Map(await table("UIDL"));
      } catch (error) {
        if (line.ended.aborted || !(error instanceof Problem) || error.code !== "protocol") throw error;
        return undefined;
      }
    },
    heads: (numbers) =>
      each(
        numbers.map((number) => `TOP ${number} 0`),
        LARGEST_HEAD,
      ),
    messages: (numbers) =>
      each(
        numbers.map((number) => `RETR ${number}`),
        LARGEST_MESSAGE + MIB,
      ),
    async dele(numbers) {
      for (let start = 0; start < numbers.length; start += together) {
        const some = numbers.slice(start, start + together);
        line.send(some.map((number) => `DELE ${number}\r\n`).join(""));
        for (const _ of some) await answer(talk, "DELE");
      }
    },
    async quit() {
      over = true;
      try {
        line.send("QUIT\r\n");
        await answer({ ...talk, quietMs: Math.min(talk.quietMs, QUIT_MS) }, "QUIT");
      } finally {
        line.cut(new Problem("connect", "The session was ended here"));
      }
    },
    cut(problem) {
      over = true;
      line.cut(problem);
    },
  };
}

function rowsOf(block: Buffer): string[] {
  return block
    .toString("latin1")
    .split(/\r?\n/)
    .filter((row) => row !== "");
}

/** `1 120` or `1 whqtswO00WBw418f9t5JxYwZ`: a message number and what is said of it; other rows are no rows. */
function numberedRows(block: Buffer): [number, string][] {
  return rowsOf(block).flatMap((row): [number, string][] => {
    const [, number = "", rest = ""] = /^(\d{1,9})\s+(\S+)/.exec(row) ?? [];
    return number === "" ? [] : [[Number(number), rest]];
  });
}
