/** A `copy` task: puts a sent message into the mailbox's Sent folder, once, however often the task runs. */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import { asProblem } from "../../shared/contract/problem.ts";
import type { Sending } from "../../shared/contract/sending.ts";
import type { CopyTask, TaskOutcome } from "../../shared/contract/task.ts";
import type { MailConnection } from "../../shared/mail/mail.ts";
import { getSendTarget } from "../../shared/mail/sending.ts";
import { isAbortError } from "../../shared/run.ts";
import type { Store } from "../../shared/store/store.ts";
import type { Emit } from "../../shared/telemetry/events.ts";
import { clock } from "../../shared/time.ts";
import type { ReaderPool } from "../mail/reader-pool.ts";
import { LineFull } from "../shares/lines.ts";

export type CopyToSentDeps = { store: Pick<Store, "outbox" | "mailboxes">; readers: ReaderPool; emit: Emit };

/**
 * Appends the message unless the folder has one with its Message-ID, or the provider fills the folder. If it fails for
 * good, or not in time, it reports a fact and stops: the message itself was sent.
 */
export async function copyToSent(deps: CopyToSentDeps, task: CopyTask, signal: AbortSignal): Promise<TaskOutcome> {
  const { outbox, mailboxes } = deps.store;
  const [found, sending] = [await mailboxes.get(task.mailbox), await outbox.get(task.sending)];
  if (!found || !sending || sending.copy !== "wanted") return { kind: "done" };
  const { mailbox } = found;
  const raw = await outbox.getRaw(sending.id);
  try {
    if (raw) {
      const append = (connection: MailConnection) => appendToSentFolder(connection, sending, raw, signal);
      const result = await deps.readers.use(mailbox, raw.byteLength, append, signal);
      if (result !== "no folder") await rememberWhoFiles(deps, mailbox, result);
    }
  } catch (error) {
    const problem = asProblem(error);
    const expired = clock.now() >= Date.parse(sending.giveUpAt);
    if (isAbortError(error) || error instanceof LineFull || (problem.retry !== "never" && !expired)) throw error;
    const failure = { code: problem.code, cause: problem.message };
    deps.emit({ kind: "send.copy_failed", mailbox: sending.mailbox, sending: sending.id, failure });
  }
  await outbox.save({ ...sending, copy: "done" });
  return { kind: "done" };
}

type CopyResult = "appended" | "was there" | "no folder";

async function appendToSentFolder(
  connection: MailConnection,
  sending: Sending,
  raw: Uint8Array,
  signal: AbortSignal,
): Promise<CopyResult> {
  const folder = await connection.getSentFolder?.(signal);
  if (folder === undefined || folder === null || !connection.append) return "no folder";
  const { messageId, serverMessageId, sentAt } = sending;
  const ids = serverMessageId === null ? [messageId] : [messageId, serverMessageId];
  const message = { raw, messageIds: ids, flags: ["\\Seen"], date: new Date(sentAt ?? sending.updatedAt) };
  return (await connection.append(folder, message, signal)) ? "appended" : "was there";
}

/**
 * Records whether the provider puts sent messages into the Sent folder. That decides how long the next copy waits. The
 * folder is searched each time, so a wrong record costs time but makes no second copy.
 */
async function rememberWhoFiles(deps: CopyToSentDeps, { id }: Mailbox, result: CopyResult): Promise<void> {
  // The mailbox is read again, because the CRM may have changed how it sends in the meantime.
  const mailbox = (await deps.store.mailboxes.get(id))?.mailbox;
  if (!mailbox?.send || mailbox.send.saveSent === "always") return;
  const target = getSendTarget(mailbox);
  const { sentFiledBy } = mailbox;
  if (result === "was there" && sentFiledBy !== target)
    await deps.store.mailboxes.amend(mailbox, (stored) => ({ ...stored, sentFiledBy: target }));
  if (result === "appended" && sentFiledBy !== undefined)
    await deps.store.mailboxes.amend(mailbox, (stored) => {
      const { sentFiledBy: _, ...others } = stored;
      return others;
    });
}
