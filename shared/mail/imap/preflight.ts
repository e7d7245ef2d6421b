/** Trying out a mailbox's settings step by step, so that a person learns which one is wrong and what to do about it. */
import type { Socket } from "node:net";
import type { Mailbox } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";
import type { PreflightReport, PreflightStep } from "../mail.ts";
import { credentials, type ImapDeps, logIn, portOf } from "./client.ts";
import { listFolders } from "./folders.ts";
import { problemOf } from "../problems.ts";
import type { Session } from "./session.ts";
import { secured } from "../wire.ts";

type Try = { deps: ImapDeps; mailbox: Mailbox; signal: AbortSignal; steps: PreflightStep[] };

/** Which capabilities make a difference here, and what their absence means. */
const CAPABILITIES: Record<string, string> = {
  IDLE: "no IDLE: new mail is found by polling",
  UIDPLUS: "no UIDPLUS: deleting leaves messages marked while other clients' marks are there",
  MOVE: "no MOVE: moving is done by copying and deleting",
};

/**
 * Connects as a subscription would and reports every step up to the first failure that makes the rest impossible. Leaves the
 * mailbox as it was. Throws only when the signal aborts.
 */
export async function preflight(deps: ImapDeps, mailbox: Mailbox, signal: AbortSignal): Promise<PreflightReport> {
  const attempt: Try = { deps, mailbox, signal, steps: [] };
  const session = await connected(attempt);
  if (session) {
    try {
      await inspected(attempt, session);
    } finally {
      await session.close();
    }
  }
  signal.throwIfAborted();
  return { ok: attempt.steps.every((one) => one.ok), steps: attempt.steps };
}

async function connected(attempt: Try): Promise<Session | undefined> {
  const { deps, mailbox, signal } = attempt;
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
  if (receive.tls !== "implicit") return loggedIn(attempt, raw);
  const socket = await step(attempt, "tls", async () => {
    const tls = await secured(raw, receive, ms, signal);
    return { value: tls, detail: tls.getProtocol() ?? "TLS" };
  });
  return socket && loggedIn(attempt, socket);
}

/** Login, with STARTTLS before it as a step of its own where the mailbox asks for it. */
async function loggedIn(attempt: Try, socket: Socket): Promise<Session | undefined> {
  const { deps, mailbox, signal, steps } = attempt;
  const { tls } = mailbox.receive;
  const startedAt = performance.now();
  const took = () => Math.round(performance.now() - startedAt);
  if (tls === "none") steps.push({ name: "tls", ok: true, ms: 0, detail: "not used: the password travels in clear" });
  const onSecure = () => steps.push({ name: "tls", ok: true, ms: took(), detail: "STARTTLS" });
  try {
    const auth = await credentials(deps, mailbox, signal);
    const session = await logIn(deps, mailbox, { socket, auth, onSecure }, signal);
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

async function inspected(attempt: Try, session: Session): Promise<void> {
  const { mailbox, signal } = attempt;
  const { client } = session;
  const missing = Object.entries(CAPABILITIES).filter(([name]) => !client.capabilities.has(name));
  const offered = [...client.capabilities.keys()].join(" ");
  const detail = [offered, ...missing.map(([, meaning]) => meaning)].join("; ");
  attempt.steps.push({ name: "capabilities", ok: true, ms: 0, detail });
  const first = await step(attempt, "folders", () => foldersOpened(session, mailbox, signal));
  if (!first) return;
  if (mailbox.receive.mode === "poll" || !client.capabilities.has("IDLE")) {
    const why = mailbox.receive.mode === "poll" ? "not used: the mailbox is polled" : "not offered: it will be polled";
    attempt.steps.push({ name: "idle", ok: true, ms: 0, detail: why });
    return;
  }
  await step(attempt, "idle", async () => {
    await session.inFolder(first, "IDLE", () => idledOnce(client), signal);
    return { value: true, detail: "the server notifies of new mail" };
  });
}

/** DONE may only be said after the server's "+", so an answer to the next command proves both. */
async function idledOnce(client: Session["client"]): Promise<void> {
  const idling = client.idle();
  await client.noop();
  if ((await idling) === false) throw new Problem("protocol", "The server offers IDLE but refuses it");
}

async function foldersOpened(session: Session, mailbox: Mailbox, signal: AbortSignal) {
  const { folders } = mailbox.receive;
  const listed = await listFolders(session, signal);
  const wanted = folders === "all" ? ["INBOX"] : folders;
  const counts: string[] = [];
  for (const folder of wanted) {
    const exists = await session
      .inFolder(folder, `SELECT ${folder}`, (box) => Promise.resolve(box.exists), signal)
      .catch((error: unknown) => {
        throw withNames(
          error,
          listed.filter((one) => one.selectable).map((one) => one.path),
        );
      });
    counts.push(`${folder} (${exists} messages)`);
  }
  return { value: wanted[0] ?? "INBOX", detail: `${counts.join(", ")}; ${listed.length} folders in all` };
}

function withNames(error: unknown, names: string[]): unknown {
  if (!(error instanceof Problem) || error.code !== "folder") return error;
  const some = names.slice(0, 50).map((name) => JSON.stringify(name));
  return new Problem("folder", `${error.message}; there are ${some.join(", ")}`, { retry: "never", cause: error });
}

/** Runs one step and records it; undefined when it failed. */
async function step<T>(
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

function explained(problem: Problem): { cause: string; fix: string; detail?: string } {
  const { message, fix, evidence } = problem;
  return { cause: message, fix, ...(evidence === null ? {} : { detail: evidence }) };
}
