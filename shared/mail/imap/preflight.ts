/** Trying out a mailbox's settings step by step, so that a person learns which one is wrong and what to do about it. */
import type { MailboxOf } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";
import type { PreflightReport } from "../mail.ts";
import { connected, step, type Try } from "../preflight-steps.ts";
import { type ImapDeps, logIn } from "./client.ts";
import { listFolders } from "./folders.ts";
import type { Session } from "./session.ts";

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
export async function preflight(
  deps: ImapDeps,
  mailbox: MailboxOf<"imap">,
  signal: AbortSignal,
): Promise<PreflightReport> {
  const attempt: Try<MailboxOf<"imap">> = { mailbox, signal, steps: [] };
  const session = await connected(deps, attempt, (by) => logIn(deps, mailbox, by, signal));
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

async function inspected(attempt: Try<MailboxOf<"imap">>, session: Session): Promise<void> {
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

async function foldersOpened(session: Session, mailbox: MailboxOf<"imap">, signal: AbortSignal) {
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
