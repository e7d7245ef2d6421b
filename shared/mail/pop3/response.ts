/** The answers of a POP3 server, each with a deadline: one line, or a block that ends with a dot (RFC 1939 section 3). */
import { Problem } from "../../contract/problem.ts";
import { withIdleTimeout } from "../net/idle-timeout.ts";
import { toProblem, type Step } from "../problems.ts";
import type { LineStream } from "./stream.ts";

export type Pop3Connection = {
  stream: LineStream;
  /** How long the server may be silent. */
  idleMs: number;
  /** What no evidence may show: the password or token, and what was computed from it. */
  secrets: string[];
};

/** A hundred thousand messages, each with an id of 70 characters, have half of it. */
export const MAX_LIST_BYTES = 16 * 1024 * 1024;
const MAX_DOWNLOAD_MS = 30 * 60 * 1000;

/**
 * Sends a command and resolves with the server's text after `+OK`. Throws the Problem that `-ERR` means at this step.
 */
export async function sendCommand(
  connection: Pop3Connection,
  command: string,
  step: Step = "command",
): Promise<string> {
  connection.stream.send(`${command}\r\n`);
  return readResponse(connection, command.split(" ")[0] ?? "", step);
}

/** Waits for the greeting, which must be whole within the time that the server may be silent, and resolves with its text. */
export function readGreeting(connection: Pop3Connection): Promise<string> {
  return readResponse(connection, "The greeting", "login", connection.idleMs);
}

/** Waits for the answer to something that was sent, at most `maxMs`. */
export async function readResponse(
  connection: Pop3Connection,
  what: string,
  step: Step = "command",
  maxMs?: number,
): Promise<string> {
  const response = await readWithTimeout(connection, what, () => connection.stream.readLine(), maxMs);
  if (/^\+OK\b/i.test(response)) return response.slice(3).trim();
  if (/^\+( |$)/.test(response)) return response.slice(1).trim();
  if (/^-ERR\b/i.test(response)) throw toRefusalProblem(response.slice(4).trim(), connection.secrets, step);
  const problem = new Problem("protocol", `The server answered ${what} with something that is not POP3`);
  connection.stream.destroy(problem);
  throw problem;
}

/** Waits for something that the server says, at most `maxMs`. */
export async function readWithTimeout<T>(
  connection: Pop3Connection,
  what: string,
  read: () => Promise<T>,
  maxMs = 8 * connection.idleMs,
): Promise<T> {
  const received = () => connection.stream.received;
  return withIdleTimeout({ received, idleMs: connection.idleMs, maxMs }, what, read(), connection.stream.destroy);
}

function toRefusalProblem(words: string, secrets: readonly string[], step: Step): Problem {
  const error = Object.assign(new Error("Refused"), { responseStatus: "NO", responseText: words || "no reason given" });
  return toProblem(error, { step, secrets });
}

/** Reads the answer to something that was sent: its text, or the Problem that a refusal means. */
export async function readReply(connection: Pop3Connection, what: string): Promise<string | Problem> {
  try {
    return await readResponse(connection, what);
  } catch (error) {
    if (connection.stream.ended.aborted || !(error instanceof Problem)) throw error;
    return error;
  }
}

/** Reads the block of an answer. */
export function readBlock(connection: Pop3Connection, what: string, maxBytes: number): Promise<Buffer> {
  return readWithTimeout(connection, what, () => connection.stream.readBlock(maxBytes), MAX_DOWNLOAD_MS);
}
