/**
 * A `copy` task: puts a sent message into the mailbox's Sent folder, once, however often the task runs. Some minutes later
 * it looks whether the provider has put one there too.
 */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import { asProblem } from "../../shared/contract/problem.ts";
import type { Sending } from "../../shared/contract/sending.ts";
import type { CopyTask, PlacedCopy, TaskOutcome } from "../../shared/contract/task.ts";
import type { CopyVerdict, MailConnection } from "../../shared/mail/mail.ts";
import { getSendTarget } from "../../shared/mail/sending.ts";
import { isAbortError } from "../../shared/run.ts";
import type { Store } from "../../shared/store/store.ts";
import type { Emit } from "../../shared/telemetry/events.ts";
import { type Backoff, clock } from "../../shared/time.ts";
import type { ReaderPool } from "../mail/reader-pool.ts";
import { LineFull } from "../shares/lines.ts";

export type CopyToSentDeps = {
  store: Pick<Store, "outbox" | "mailboxes">;
  readers: ReaderPool;
  emit: Emit;
  backoff: Pick<Backoff, "sentCopy">;
};

/**
 * How long it counts that a provider was seen to put no copies there. In this time no message is looked at a second time.
 */
const NOT_FILED_MS = 7 * 24 * 60 * 60 * 1000;

/**
 * Appends the message unless the folder has one with its Message-ID, or the provider fills the folder. If it fails for
 * good, or not in time, it reports a fact and stops: the message itself was sent.
 */
export async function copyToSent(deps: CopyToSentDeps, task: CopyTask, signal: AbortSignal): Promise<TaskOutcome> {
  const { outbox, mailboxes } = deps.store;
  const [found, sending] = [await mailboxes.get(task.mailbox), await outbox.get(task.sending)];
  if (!found || !sending) return { kind: "done" };
  const { mailbox } = found;
  if (task.placed) return lookAgain(deps, { mailbox, sending, placed: task.placed }, signal);
  if (sending.copy !== "wanted") return { kind: "done" };
  const raw = await outbox.getRaw(sending.id);
  let placed: PlacedCopy | undefined;
  try {
    if (raw) {
      const append = (connection: MailConnection) => appendToSentFolder(connection, sending, raw, signal);
      const result = await deps.readers.use(mailbox, raw.byteLength, append, signal);
      if (result === false) await rememberWhoFiles(deps, mailbox, "provider");
      else if (result !== "no folder") placed = await forgetWhoFiles(deps, mailbox, result);
    }
  } catch (error) {
    reportUnlessLater(deps, sending, error);
  }
  await outbox.save({ ...sending, copy: "done" });
  if (!placed) return { kind: "done" };
  return { kind: "again", task: { ...task, placed }, at: new Date(clock.now() + deps.backoff.sentCopy(2)) };
}

/** Throws the error if the task may succeed later, and reports it otherwise. */
function reportUnlessLater(deps: CopyToSentDeps, sending: Sending, error: unknown): void {
  const problem = asProblem(error);
  const expired = clock.now() >= Date.parse(sending.giveUpAt);
  if (isAbortError(error) || error instanceof LineFull || (problem.retry !== "never" && !expired)) throw error;
  const failure = { code: problem.code, cause: problem.message };
  deps.emit({ kind: "send.copy_failed", mailbox: sending.mailbox, sending: sending.id, failure });
}

type AppendResult = boolean | PlacedCopy | "no folder";

async function appendToSentFolder(
  connection: MailConnection,
  sending: Sending,
  raw: Uint8Array,
  signal: AbortSignal,
): Promise<AppendResult> {
  const folder = await connection.getSentFolder?.(signal);
  if (folder === undefined || folder === null || !connection.append) return "no folder";
  const { messageId, serverMessageId, sentAt } = sending;
  const ids = serverMessageId === null ? [messageId] : [messageId, serverMessageId];
  const message = { raw, messageIds: ids, flags: ["\\Seen"], date: new Date(sentAt ?? sending.updatedAt) };
  return connection.append(folder, message, signal);
}

type Placed = { mailbox: Mailbox; sending: Sending; placed: PlacedCopy };

/**
 * A provider may put its copy there minutes after the message was sent. Then there are two, and ours is taken away. From
 * then on the service waits for the provider's copy before it makes one. What is found decides about later messages
 * too, so a mailbox is looked at twice for a few messages only.
 */
async function lookAgain(deps: CopyToSentDeps, at: Placed, signal: AbortSignal): Promise<TaskOutcome> {
  const { mailbox, sending, placed } = at;
  const check = (connection: MailConnection) => connection.checkCopy?.(placed, signal) ?? Promise.resolve("unclear");
  try {
    // Ours and the other one are in memory at once.
    const verdict: CopyVerdict = await deps.readers.use(mailbox, 2 * sending.size, check, signal);
    if (verdict === "alone") await rememberWhoFiles(deps, mailbox, "nobody");
    if (verdict === "removed" || verdict === "kept") await rememberWhoFiles(deps, mailbox, "provider");
  } catch (error) {
    reportUnlessLater(deps, sending, error);
  }
  return { kind: "done" };
}

/** The mailbox as it is now, because somebody may have changed how it sends in the meantime. */
async function readAutomatic(deps: CopyToSentDeps, { id }: Mailbox): Promise<Mailbox | undefined> {
  const mailbox = (await deps.store.mailboxes.get(id))?.mailbox;
  return mailbox?.send && mailbox.send.saveSent !== "always" ? mailbox : undefined;
}

/**
 * Records whether the provider puts sent messages into the Sent folder. That decides how long the next copy waits. The
 * folder is searched each time, so a wrong record costs time but makes no second copy.
 */
async function rememberWhoFiles(deps: CopyToSentDeps, at: Mailbox, who: "provider" | "nobody"): Promise<void> {
  const mailbox = await readAutomatic(deps, at);
  if (!mailbox) return;
  const server = getSendTarget(mailbox);
  if (who === "provider" && mailbox.sentFiledBy === server) return;
  const learned =
    who === "provider"
      ? { sentFiledBy: server }
      : { sentNotFiledBy: { server, at: new Date(clock.now()).toISOString() } };
  await deps.store.mailboxes.amend(mailbox, (stored) => ({ ...withoutLearned(stored), ...learned }));
}

/**
 * The provider had put no copy there in time. Resolves with the copy that shall be looked at again; undefined if it
 * cannot be, or if it is known that the provider puts none there.
 */
async function forgetWhoFiles(
  deps: CopyToSentDeps,
  at: Mailbox,
  placed: true | PlacedCopy,
): Promise<PlacedCopy | undefined> {
  const mailbox = await readAutomatic(deps, at);
  if (!mailbox) return undefined;
  const { sentFiledBy, sentNotFiledBy } = mailbox;
  if (sentFiledBy !== undefined) await deps.store.mailboxes.amend(mailbox, withoutLearned);
  const isKnown = sentNotFiledBy?.server === getSendTarget(mailbox);
  if (placed === true || (isKnown && clock.now() - Date.parse(sentNotFiledBy.at) < NOT_FILED_MS)) return undefined;
  return placed;
}

function withoutLearned(stored: Mailbox): Mailbox {
  const { sentFiledBy: _, sentNotFiledBy: __, ...others } = stored;
  return others;
}
