/** Tries a mailbox's settings step by step, so that a person learns which one is wrong and what to do about it. */
import type { MailboxOf } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";
import type { Folder } from "../../contract/message.ts";
import type { PreflightReport } from "../mail.ts";
import { connectAndLogIn, preflightRun, runStep, type PreflightRun } from "../preflight-steps.ts";
import { type ImapDeps, logIn } from "./client.ts";
import { listFolders, watchedFolders } from "./folders.ts";
import { isMissingFolder, type Session } from "./session.ts";

/** Capabilities that make a difference here, and what their absence means. */
const CAPABILITIES: Record<string, string> = {
  IDLE: "no IDLE: the service polls for new mail",
  UIDPLUS: "no UIDPLUS: messages stay marked as deleted while other clients have marked some too",
  MOVE: "no MOVE: the service moves by copying and deleting",
};

/**
 * Connects as a subscription would. Reports every step up to the first failure that makes the rest impossible. The
 * mailbox does not change. Throws only when the signal aborts.
 */
export async function preflight(
  deps: ImapDeps,
  mailbox: MailboxOf<"imap">,
  signal: AbortSignal,
): Promise<PreflightReport> {
  const attempt = preflightRun(mailbox, signal);
  const session = await connectAndLogIn(deps, attempt, (by) => logIn(deps, mailbox, by, attempt.deadline));
  if (session) {
    try {
      await inspectServer(attempt, session);
    } finally {
      await session.close();
    }
  }
  signal.throwIfAborted();
  return { ok: attempt.steps.every((one) => one.ok), steps: attempt.steps };
}

async function inspectServer(attempt: PreflightRun<MailboxOf<"imap">>, session: Session): Promise<void> {
  const { mailbox, deadline } = attempt;
  const { client } = session;
  const missing = Object.entries(CAPABILITIES).filter(([name]) => !client.capabilities.has(name));
  const offered = [...client.capabilities.keys()].join(" ");
  const detail = [offered, ...missing.map(([, meaning]) => meaning)].join("; ");
  attempt.steps.push({ name: "capabilities", ok: true, ms: 0, detail });
  const first = await runStep(attempt, "folders", () => openFolders(session, mailbox, deadline));
  if (!first) return;
  if (mailbox.receive.mode === "poll" || !client.capabilities.has("IDLE")) {
    const why = mailbox.receive.mode === "poll" ? "not used: the mailbox is polled" : "not offered: the service polls";
    attempt.steps.push({ name: "idle", ok: true, ms: 0, detail: why });
    return;
  }
  await runStep(attempt, "idle", async () => {
    await session.runInFolder(first, "IDLE", () => verifyIdle(client), deadline);
    return { value: true, detail: "the server notifies of new mail" };
  });
}

/** DONE may be sent only after the server's "+", so an answer to the next command proves both. */
async function verifyIdle(client: Session["client"]): Promise<void> {
  const idling = client.idle();
  await client.noop();
  if ((await idling) === false) throw new Problem("protocol", "The server offers IDLE but refuses it");
}

/** So long for the folders where all are watched: they may be thousands. */
const FOLDERS_MS = 20_000;
const MAX_NAMED = 50;

/** Opens each folder. A named one that is not opened fails the step; where all are watched it is left out, and named. */
async function openFolders(session: Session, mailbox: MailboxOf<"imap">, signal: AbortSignal) {
  const listed = await listFolders(session, signal);
  const isAll = mailbox.receive.folders === "all";
  const until = performance.now() + FOLDERS_MS;
  const opened: string[] = [];
  const closed: string[] = [];
  let first: string | undefined;
  for (const { folder } of await watchedFolders(session, mailbox, signal)) {
    if (isAll && performance.now() >= until) break;
    try {
      const exists = await session.runInFolder(folder, `SELECT ${folder}`, countMessages, signal);
      opened.push(`${folder} (${exists} messages)`);
      first ??= folder;
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== "folder") throw error;
      if (!isAll) throw isMissingFolder(error) ? withFolderNames(error, listed) : error;
      closed.push(`${error.message}${error.evidence === null ? "" : `: ${error.evidence}`}`);
    }
  }
  if (first === undefined) throw new Problem("folder", `No folder can be opened: ${some(closed)}`, { retry: "never" });
  const left = closed.length === 0 ? "" : `; not watched: ${some(closed)}`;
  return { value: first, detail: `${some(opened)}; ${listed.length} folders in all${left}` };
}

function countMessages({ exists }: { exists: number }): Promise<number> {
  return Promise.resolve(exists);
}

function some(words: string[]): string {
  const more = words.length > MAX_NAMED ? [`and ${words.length - MAX_NAMED} more`] : [];
  return [...words.slice(0, MAX_NAMED), ...more].join(", ");
}

/** A mistyped name is found among those that there are. */
function withFolderNames({ message, evidence, cause }: Problem, listed: Folder[]): Problem {
  const names = listed.filter((one) => one.selectable).map((one) => JSON.stringify(one.path));
  const words = evidence === null ? {} : { evidence };
  return new Problem("folder", `${message}; there are ${some(names)}`, { retry: "never", cause, ...words });
}
