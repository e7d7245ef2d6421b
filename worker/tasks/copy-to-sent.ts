/** A `copy` task: a sent message goes into the mailbox's Sent folder, once, however often this is done. */
import { asProblem } from "../../shared/contract/problem.ts";
import type { Sending } from "../../shared/contract/sending.ts";
import type { CopyTask, TaskOutcome } from "../../shared/contract/task.ts";
import type { MailConnection } from "../../shared/mail/mail.ts";
import { isAbort } from "../../shared/run.ts";
import type { Store } from "../../shared/store/store.ts";
import type { Emit } from "../../shared/telemetry/events.ts";
import type { Readers } from "../mail/reader-pool.ts";

export type CopyDeps = { store: Pick<Store, "outbox" | "mailboxes">; readers: Readers; emit: Emit };

/**
 * Appends the message unless the folder has one with its Message-ID, or its provider fills the folder. What cannot be mended, or not
 * within the time a sending has, is told as a fact and left: the message itself was sent.
 */
export async function copy(deps: CopyDeps, task: CopyTask, signal: AbortSignal): Promise<TaskOutcome> {
  const { outbox, mailboxes } = deps.store;
  const [found, sending] = [await mailboxes.get(task.mailbox), await outbox.get(task.sending)];
  if (!found || !sending || sending.copy !== "wanted") return { kind: "done" };
  const raw = await outbox.raw(sending.id);
  try {
    if (raw)
      await deps.readers.use(
        found.mailbox,
        raw.byteLength,
        (connection) => filed(connection, sending, raw, signal),
        signal,
      );
  } catch (error) {
    const problem = asProblem(error);
    const late = Date.now() >= Date.parse(sending.giveUpAt);
    if (isAbort(error) || (problem.retry !== "never" && !late)) throw error;
    const failure = { code: problem.code, cause: problem.message };
    deps.emit({ kind: "send.uncopied", mailbox: sending.mailbox, sending: sending.id, failure });
  }
  await outbox.save({ ...sending, copy: "done" });
  return { kind: "done" };
}

async function filed(
  connection: MailConnection,
  sending: Sending,
  raw: Uint8Array,
  signal: AbortSignal,
): Promise<void> {
  const folder = await connection.sentFolder?.(signal);
  if (folder === undefined || folder === null) return;
  const { messageId, serverMessageId, sentAt } = sending;
  const ids = serverMessageId === null ? [messageId] : [messageId, serverMessageId];
  const message = { raw, messageIds: ids, flags: ["\\Seen"], date: new Date(sentAt ?? sending.updatedAt) };
  await connection.append?.(folder, message, signal);
}
