/** The first steps of a preflight, the same for every protocol. Each step is recorded with its cause and fix. */
import type { Socket } from "node:net";
import type { Mailbox, MailboxOf } from "../contract/mailbox.ts";
import { Problem } from "../contract/problem.ts";
import { type Egress, portOfUrl } from "../egress.ts";
import { type Credentials, withCredentials } from "./oauth/credentials.ts";
import { portOf } from "../places.ts";
import type { PreflightStep } from "./mail.ts";
import type { Tokens } from "./oauth/tokens.ts";
import { type Step, toProblem } from "./problems.ts";
import { type LoginDeps, withLoginGate } from "./net/login-gate.ts";
import { type TlsTrust, upgradeToTls } from "./net/tls.ts";

export type PreflightDeps = LoginDeps & {
  egress: Egress;
  tokens?: Tokens;
  timeouts: { command: number };
  waitForLoginRate?: (host: string, signal: AbortSignal) => Promise<void>;
};

/** One preflight: its steps so far, in order. `deadline` aborts with `signal`, or when the time for all steps is over. */
export type PreflightRun<M extends Mailbox = Mailbox> = {
  mailbox: M;
  signal: AbortSignal;
  deadline: AbortSignal;
  steps: PreflightStep[];
};

/** Less than whoever waits for the report is given: a step that hangs costs that step, not the report. */
export const PREFLIGHT_MS = 35_000;

/** A preflight before its first step. */
export function preflightRun<M extends Mailbox>(mailbox: M, signal: AbortSignal): PreflightRun<M> {
  return { mailbox, signal, deadline: AbortSignal.any([signal, AbortSignal.timeout(PREFLIGHT_MS)]), steps: [] };
}

/** What a step failed with: its own fault, or that there was no more time for it. */
export function toStepProblem({ deadline }: PreflightRun, error: unknown, step: Step): Problem {
  if (!deadline.aborted) return toProblem(error, { step });
  return new Problem("timeout", `The server took longer than ${PREFLIGHT_MS / 1000} seconds for all of this together`);
}

/** Protocols with their own connection, which begins with a login. */
type SocketMailbox = MailboxOf<"imap" | "pop3">;

/** `onUpgrade` is called before STARTTLS is sent, `onSecure` when it succeeded. */
type LogIn<T> = (by: { socket: Socket; auth: Credentials; onUpgrade: () => void; onSecure: () => void }) => Promise<T>;

/**
 * DNS, TCP, TLS and login, up to the first failure; undefined when there was one. Throws only when the signal aborts.
 */
export async function connectAndLogIn<T>(
  deps: PreflightDeps,
  attempt: PreflightRun<SocketMailbox>,
  logIn: LogIn<T>,
): Promise<T | undefined> {
  const { mailbox, deadline: signal } = attempt;
  const { receive } = mailbox;
  const addresses = await runStep(attempt, "dns", async () => {
    const list = await deps.egress.resolve({ host: receive.host, port: portOf(receive) }, signal);
    return { value: list, detail: list.map((one) => one.address).join(", ") };
  });
  if (!addresses) return undefined;
  const raw = await runStep(attempt, "tcp", async () => {
    const socket = await connectTcp(deps, attempt);
    return { value: socket, detail: `${socket.remoteAddress ?? ""} port ${portOf(receive)}` };
  });
  if (!raw) return undefined;
  if (receive.tls !== "implicit") return runLoginStep(deps, attempt, raw, logIn);
  const socket = await runStep(attempt, "tls", async () => {
    const tls = await upgradeToTls(raw, receive, deps.timeouts.command, signal);
    return { value: tls, detail: tls.getProtocol() ?? "TLS" };
  });
  return socket && runLoginStep(deps, attempt, socket, logIn);
}

async function connectTcp(
  deps: PreflightDeps,
  { mailbox: { receive }, deadline }: PreflightRun<SocketMailbox>,
): Promise<Socket> {
  await deps.waitForLoginRate?.(receive.host, deadline);
  const timeoutMs = deps.timeouts.command;
  const socket = await deps.egress.connect({ host: receive.host, port: portOf(receive), timeoutMs }, deadline);
  socket.on("error", () => undefined);
  return socket;
}

/** A connection like the one that was refused, for the login with a new token. */
async function connectAgain(deps: PreflightDeps, attempt: PreflightRun<SocketMailbox>): Promise<Socket> {
  const { receive } = attempt.mailbox;
  const raw = await connectTcp(deps, attempt);
  return receive.tls === "implicit" ? upgradeToTls(raw, receive, deps.timeouts.command, attempt.deadline) : raw;
}

/** The login. If the mailbox asks for STARTTLS, the upgrade before it is a step of its own. */
async function runLoginStep<T>(
  deps: PreflightDeps,
  attempt: PreflightRun<SocketMailbox>,
  socket: Socket,
  logIn: LogIn<T>,
): Promise<T | undefined> {
  const { mailbox, signal, steps } = attempt;
  const { tls, protocol } = mailbox.receive;
  const startedAt = performance.now();
  const elapsedMs = () => Math.round(performance.now() - startedAt);
  if (tls === "none") steps.push({ name: "tls", ok: true, ms: 0, detail: "not used: the password travels in clear" });
  const upgrade = protocol === "pop3" ? "STLS" : "STARTTLS";
  let isUpgrading = false;
  const onUpgrade = () => {
    isUpgrading = true;
  };
  const onSecure = () => {
    isUpgrading = false;
    if (logins === 1) steps.push({ name: "tls", ok: true, ms: elapsedMs(), detail: upgrade });
  };
  let logins = 0;
  const logInOnce = async (auth: Credentials) =>
    logIn({ socket: logins++ === 0 ? socket : await connectAgain(deps, attempt), auth, onUpgrade, onSecure });
  try {
    const { deadline } = attempt;
    const { receive } = mailbox;
    const server = { host: receive.host, port: portOf(receive) };
    const open = () => withCredentials(deps, mailbox, logInOnce, deadline);
    const session = await withLoginGate(deps, server, receive.auth, open, deadline);
    steps.push({ name: "login", ok: true, ms: elapsedMs(), detail: mailbox.receive.auth.user });
    return session;
  } catch (error) {
    socket.destroy();
    signal.throwIfAborted();
    const problem = toStepProblem(attempt, error, "login");
    const name = isUpgrading || problem.code === "tls" || problem.code === "starttls" ? "tls" : "login";
    steps.push({ name, ok: false, ms: elapsedMs(), ...toStepFailure(problem) });
    return undefined;
  }
}

/** A server that is reached by HTTP. `origin` is how its URL was found, `plain` what it means that TLS is not used. */
type WebServer = Omit<TlsTrust, "host"> & { url: URL; origin: string; plain: string };

/** DNS, TCP and TLS as separate steps, up to the first failure. False when there was one. */
export async function checkWebServer(
  deps: PreflightDeps,
  attempt: PreflightRun,
  { url, ca, fingerprint, origin, plain }: WebServer,
): Promise<boolean> {
  const { deadline: signal, steps } = attempt;
  const { hostname: host, protocol } = url;
  const port = portOfUrl(url);
  const timeoutMs = deps.timeouts.command;
  const addresses = await runStep(attempt, "dns", async () => {
    const list = await deps.egress.resolve({ host, port }, signal);
    return { value: list, detail: origin + list.map((one) => one.address).join(", ") };
  });
  const raw =
    addresses &&
    (await runStep(attempt, "tcp", async () => {
      await deps.waitForLoginRate?.(host, signal);
      const socket = await deps.egress.connect({ host, port, timeoutMs }, signal);
      socket.on("error", () => undefined);
      return { value: socket, detail: `${socket.remoteAddress ?? ""} port ${port}` };
    }));
  if (!raw) return false;
  try {
    if (protocol === "https:") {
      const secure = await runStep(attempt, "tls", async () => {
        const tls = await upgradeToTls(raw, { host, ca, fingerprint }, timeoutMs, signal);
        const detail = tls.getProtocol() ?? "TLS";
        tls.destroy();
        return { value: true, detail };
      });
      return secure ?? false;
    }
    steps.push({ name: "tls", ok: true, ms: 0, detail: plain });
    return true;
  } finally {
    raw.destroy();
  }
}

/** Runs one step and records it. Undefined when it failed. */
export async function runStep<T>(
  attempt: PreflightRun,
  name: PreflightStep["name"],
  work: () => Promise<{ value: T; detail: string }>,
): Promise<T | undefined> {
  attempt.signal.throwIfAborted();
  const startedAt = performance.now();
  const elapsedMs = () => Math.round(performance.now() - startedAt);
  try {
    const { value, detail } = await work();
    attempt.steps.push({ name, ok: true, ms: elapsedMs(), detail });
    return value;
  } catch (error) {
    attempt.signal.throwIfAborted();
    attempt.steps.push({
      name,
      ok: false,
      ms: elapsedMs(),
      ...toStepFailure(toStepProblem(attempt, error, "connect")),
    });
    return undefined;
  }
}

/** A problem as the fields of the step that it ended. */
export function toStepFailure(problem: Problem): { cause: string; fix: string; detail?: string } {
  const { message, fix, evidence } = problem;
  return { cause: message, fix, ...(evidence === null ? {} : { detail: evidence }) };
}
