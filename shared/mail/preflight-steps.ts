/** The first steps of trying out a mailbox's settings, the same for every protocol, each recorded with its cause and remedy. */
import type { Socket } from "node:net";
import type { Mailbox, MailboxOf } from "../contract/mailbox.ts";
import type { Problem } from "../contract/problem.ts";
import type { Egress } from "../egress.ts";
import { type Credentials, credentials } from "./credentials.ts";
import { portOf } from "./defaults.ts";
import type { PreflightStep } from "./mail.ts";
import type { Tokens } from "./oauth/tokens.ts";
import { problemOf } from "./problems.ts";
import { secured } from "./net/tls.ts";

export type Deps = {
  egress: Egress;
  tokens?: Tokens;
  timeouts: { command: number };
  gate?: (host: string, signal: AbortSignal) => Promise<void>;
};

/** One trial: its steps so far, in order. */
export type Try<M extends Mailbox = Mailbox> = { mailbox: M; signal: AbortSignal; steps: PreflightStep[] };

/** What is reached over a connection of its own, with a login at its beginning. */
type Dialled = MailboxOf<"imap" | "pop3">;

type LogIn<T> = (by: { socket: Socket; auth: Credentials; onSecure: () => void }) => Promise<T>;

/** DNS, TCP, TLS and login, up to the first failure; undefined when there was one. Throws only when the signal aborts. */
export async function connected<T>(deps: Deps, attempt: Try<Dialled>, logIn: LogIn<T>): Promise<T | undefined> {
  const { mailbox, signal } = attempt;
  const { receive } = mailbox;
  const ms = deps.timeouts.command;
  const found = await step(attempt, "dns", async () => {
    const list = await deps.egress.addresses(receive.host, signal);
    return { value: list, detail: list.map((one) => one.address).join(", ") };
  });
  if (!found) return undefined;
  const raw = await step(attempt, "tcp", async () => {
    await deps.gate?.(receive.host, signal);
    const socket = await deps.egress.connect({ host: receive.host, port: portOf(receive), timeoutMs: ms }, signal);
    socket.on("error", () => undefined);
    return { value: socket, detail: `${socket.remoteAddress ?? ""} port ${portOf(receive)}` };
  });
  if (!raw) return undefined;
  if (receive.tls !== "implicit") return loggedIn(deps, attempt, raw, logIn);
  const socket = await step(attempt, "tls", async () => {
    const tls = await secured(raw, receive, ms, signal);
    return { value: tls, detail: tls.getProtocol() ?? "TLS" };
  });
  return socket && loggedIn(deps, attempt, socket, logIn);
}

/** Login, with the upgrade to TLS before it as a step of its own where the mailbox asks for one. */
async function loggedIn<T>(deps: Deps, attempt: Try<Dialled>, socket: Socket, logIn: LogIn<T>): Promise<T | undefined> {
  const { mailbox, signal, steps } = attempt;
  const { tls, protocol } = mailbox.receive;
  const startedAt = performance.now();
  const took = () => Math.round(performance.now() - startedAt);
  if (tls === "none") steps.push({ name: "tls", ok: true, ms: 0, detail: "not used: the password travels in clear" });
  const upgrade = protocol === "pop3" ? "STLS" : "STARTTLS";
  const onSecure = () => steps.push({ name: "tls", ok: true, ms: took(), detail: upgrade });
  try {
    const auth = await credentials(deps, mailbox, signal);
    const session = await logIn({ socket, auth, onSecure });
    steps.push({ name: "login", ok: true, ms: took(), detail: mailbox.receive.auth.user });
    return session;
  } catch (error) {
    socket.destroy();
    signal.throwIfAborted();
    const problem = problemOf(error, { step: "login" });
    const name = problem.code === "tls" || problem.code === "starttls" ? "tls" : "login";
    steps.push({ name, ok: false, ms: took(), ...explained(problem) });
    return undefined;
  }
}

/** Runs one step and records it; undefined when it failed. */
export async function step<T>(
  attempt: Try,
  name: PreflightStep["name"],
  work: () => Promise<{ value: T; detail: string }>,
): Promise<T | undefined> {
  attempt.signal.throwIfAborted();
  const startedAt = performance.now();
  const took = () => Math.round(performance.now() - startedAt);
  try {
    const { value, detail } = await work();
    attempt.steps.push({ name, ok: true, ms: took(), detail });
    return value;
  } catch (error) {
    attempt.signal.throwIfAborted();
    attempt.steps.push({ name, ok: false, ms: took(), ...explained(problemOf(error, { step: "connect" })) });
    return undefined;
  }
}

/** A problem as the fields of the step that it ended. */
export function explained(problem: Problem): { cause: string; fix: string; detail?: string } {
  const { message, fix, evidence } = problem;
  return { cause: message, fix, ...(evidence === null ? {} : { detail: evidence }) };
}
