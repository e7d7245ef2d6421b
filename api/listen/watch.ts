/** One mailbox watched under a lease: what arrives is handed over as tasks, and only then does the cursor move. */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import type { MailConnection, WatchSign } from "../../shared/mail/mail.ts";
import type { TaskSender } from "../../shared/queue/queue.ts";
import type { Cursors } from "../../shared/store/store.ts";
import type { Emit } from "../../shared/telemetry/events.ts";
import type { Lease } from "../lease/lease.ts";

export type Watching = { cursors: Cursors; tasks: TaskSender; emit: Emit };

/**
 * Hands over everything that lies after the stored cursors until the lease ends. A message is safe with the queue before the
 * cursor passes it, so a crash at any line means it is seen again, never that it is lost. Throws the connection's Problem, or
 * `conflict` when another node owns the mailbox by now. A run of a polled mailbox that outlives its interval without a process
 * lock ends this: the lease is for one interval then, and whoever takes it goes on behind the cursor.
 */
export async function watchMailbox(
  { cursors, tasks, emit }: Watching,
  mailbox: Mailbox,
  connection: MailConnection,
  lease: Lease,
  tell: (sign: WatchSign | { kind: "arrival" }) => void,
): Promise<void> {
  const { processLock } = mailbox.receive;
  const run = { began: 0, until: Infinity };
  const heard = (sign: WatchSign) => {
    if (sign.kind === "run") Object.assign(run, { began: Date.now(), until: processLock ? Infinity : sign.until });
    tell(sign);
  };
  const known = await cursors.read(mailbox.id);
  for await (const { messages, cursor } of connection.watch(known, heard, lease.signal)) {
    if (messages.length > 0) {
      tell({ kind: "arrival" });
      emit({ kind: "mail.arrived", mailbox: mailbox.id, folder: cursor.folder, count: messages.length });
      await tasks.send({ version: 1, kind: "deliver", mailbox: mailbox.id, messages, again: false });
    }
    await cursors.advance(mailbox.id, cursor, messages, lease.fence);
    // A run that came no further than its first cursor has begun nothing another could go on with.
    if (messages.length === 0 || Date.now() < run.until) continue;
    const ms = Date.now() - run.began;
    return emit({ kind: "mailbox.overran", mailbox: mailbox.id, ms, missed: 1, finished: false, locked: false });
  }
}
