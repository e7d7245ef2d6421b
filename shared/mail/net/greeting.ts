/** The first bytes that a server sends: whether it speaks the expected protocol at all. A wrong port is reported at once. */
import type { Socket } from "node:net";
import { connect } from "node:tls";
import type { MailboxOf } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";
import type { Egress } from "../../egress.ts";
import { portOf } from "../../places.ts";
import { sleep, withTimeout } from "../../time.ts";

/** What a greeting may begin with, and how the protocol is called. */
export type ExpectedGreeting = { protocol: string; starts: readonly string[]; port: string };
type GreetingDeps = { egress: Egress; timeouts: { command: number } };

/** After so much silence it is tried whether the server waits for TLS. */
const SILENCE_MS = 3_000;
const TLS_PROBE_MS = 5_000;
const TLS_RECORDS = new Set([0x15, 0x16]);

/** What other services say first. */
const OTHER_GREETINGS: [RegExp, string][] = [
  [/^220[ -].*(smtp|mail|postfix|exim|sendmail)/i, "SMTP"],
  [/^220[ -].*ftp/i, "FTP"],
  [/^220[ -]/, "SMTP or FTP"],
  [/^\+OK/, "POP3"],
  [/^\* (OK|PREAUTH|BYE)/i, "IMAP"],
  [/^HTTP\/|^<!doctype html|^<html/i, "HTTP"],
  [/^SSH-/, "SSH"],
];

/**
 * Waits for the first bytes and leaves them to whoever reads next. Throws `protocol` or `tls`, and ends the connection,
 * when these are not the greeting of the protocol, or when the server is silent and another connection shows that it
 * waits for TLS. A connection that ended by itself is not its business.
 */
export async function checkProtocol(
  deps: GreetingDeps,
  receive: MailboxOf<"imap" | "pop3">["receive"],
  { socket, expected }: { socket: Socket; expected: ExpectedGreeting },
  signal: AbortSignal,
): Promise<void> {
  const timeoutMs = deps.timeouts.command;
  const speaksTls = async (until: AbortSignal) =>
    completesTls(await deps.egress.connect({ host: receive.host, port: portOf(receive), timeoutMs }, until), until);
  const options = { ms: timeoutMs, ...(receive.tls === "implicit" ? {} : { speaksTls }) };
  try {
    await checkGreeting(socket, expected, options, signal);
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

async function checkGreeting(
  socket: Socket,
  expected: ExpectedGreeting,
  { ms, speaksTls }: { ms: number; speaksTls?: (signal: AbortSignal) => Promise<boolean> },
  signal: AbortSignal,
): Promise<void> {
  const over = new AbortController();
  const silence = AbortSignal.any([signal, over.signal]);
  const { promise: waitsForTls, reject } = Promise.withResolvers<never>();
  const probe = async () => {
    if (!speaksTls || !(await sleep(SILENCE_MS, silence))) return;
    if (await speaksTls(silence)) reject(toTlsProblem(expected));
  };
  waitsForTls.catch(() => undefined);
  probe().catch(() => undefined);
  try {
    const first = await withTimeout(ms, "The greeting", Promise.race([peek(socket), waitsForTls]), signal);
    const problem = first && judge(first, expected);
    if (problem) throw problem;
  } finally {
    over.abort();
  }
}

/** The first bytes, which stay to be read; undefined when the connection ends before. */
function peek(socket: Socket): Promise<Buffer | undefined> {
  const { promise, resolve } = Promise.withResolvers<Buffer | undefined>();
  const onReadable = () => {
    const chunk: unknown = socket.read();
    if (!Buffer.isBuffer(chunk)) return;
    finish();
    socket.unshift(chunk);
    resolve(chunk);
  };
  const onEnd = () => {
    finish();
    resolve(undefined);
  };
  const finish = () => {
    socket.off("readable", onReadable);
    for (const event of ["end", "close", "error"]) socket.off(event, onEnd);
  };
  socket.on("readable", onReadable);
  for (const event of ["end", "close", "error"]) socket.on(event, onEnd);
  return promise;
}

function judge(first: Buffer, expected: ExpectedGreeting): Problem | undefined {
  const text = first.toString("latin1").replace(/^\0+/, "");
  if (expected.starts.some((start) => text.startsWith(start.slice(0, text.length)))) return undefined;
  if (TLS_RECORDS.has(first[0] ?? 0)) return toTlsProblem(expected);
  return toWrongPortProblem(text, expected);
}

/**
 * The name of the protocol that the port speaks, as far as it is known, and none of its words: whoever may name a port
 * could read with them what is behind it.
 */
export function toWrongPortProblem(text: string, { protocol, port }: Omit<ExpectedGreeting, "starts">): Problem {
  const other = OTHER_GREETINGS.find(([pattern]) => pattern.test(text))?.[1];
  const what = other ? `another protocol (${other})` : "another protocol";
  return new Problem("protocol", `The port does not speak ${protocol} but ${what}`, {
    fix: `Give the port of the server's ${protocol} service (${port}).`,
  });
}

function toTlsProblem({ protocol, port }: ExpectedGreeting): Problem {
  return new Problem("tls", "The port speaks TLS from the first byte, and the mailbox does not begin with TLS", {
    fix: `Set \`tls\` to \`implicit\` for this port, or give the port for ${protocol} without TLS (${port}).`,
  });
}

/** Whether a server that is silent in clear completes a TLS handshake. The certificate does not matter: nothing is sent. */
export async function completesTls(socket: Socket, signal: AbortSignal): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  socket.on("error", () => resolve(false));
  const tls = connect({ socket, rejectUnauthorized: false });
  tls.once("secureConnect", () => resolve(true));
  for (const event of ["error", "close"]) tls.on(event, () => resolve(false));
  try {
    return await withTimeout(TLS_PROBE_MS, "Trying TLS", promise, signal);
  } finally {
    tls.destroy();
    socket.destroy();
  }
}
