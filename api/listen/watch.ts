/** Watches one mailbox under a lease. Each arrival becomes a task, and only then does the cursor move. */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import type { MailConnection, WatchEvent } from "../../shared/mail/mail.ts";
import type { TaskSender } from "../../shared/queue/queue.ts";
import type { Cursors, Deliveries } from "../../shared/store/store.ts";
import type { Emit } from "../../shared/telemetry/events.ts";
import { clock } from "../../shared/time.ts";
import type { Lease } from "../lease/lease.ts";
import { mayHandOver } from "./backlog.ts";

export type WatchMailboxDeps = {
  cursors: Cursors;
  deliveries: Pick<Deliveries, "list">;
  tasks: TaskSender;
  emit: Emit;
};

/**
 * Hands over everything after the stored cursors until the lease ends. A message is safe in the queue before
 * the cursor passes it. So after a crash at any line the message is found again and never lost. Throws the connection's
 * Problem, or `conflict` when another node owns the mailbox by now. If a run of a polled mailbox takes longer than its
 * interval and has no process lock, this function returns: then the lease is for one interval, and its next owner
 * continues after the cursor.
 */
export async function watchMailbox(
  { cursors, deliveries, tasks, emit }: WatchMailboxDeps,
  mailbox: Mailbox,
  connection: MailConnection,
  lease: Lease,
  notify: (sign: WatchEvent | { kind: "arrival" }) => void,
): Promise<void> {
  const { processLock } = mailbox.receive;
  const run = { began: 0, until: Infinity };
  const onEvent = (sign: WatchEvent) => {
    if (sign.kind === "run") Object.assign(run, { began: clock.now(), until: processLock ? Infinity : sign.until });
    notify(sign);
  };
  const stored = await cursors.read(mailbox.id);
  for await (const { messages, cursor, backlog } of connection.watch(stored, onEvent, lease.signal)) {
    const wanted = (await mayHandOver(deliveries, mailbox, cursor.folder, backlog)) ? messages : [];
    if (wanted.length > 0) {
      notify({ kind: "arrival" });
      emit({ kind: "mail.arrived", mailbox: mailbox.id, folder: cursor.folder, count: wanted.length });
      const lying = backlog ? { backlog: { kind: backlog.kind, since: backlog.since } } : {};
      const task = {
        version: 1,
        kind: "deliver",
        mailbox: mailbox.id,
        messages: wanted,
        again: false,
        seenAt: new Date(clock.now()).toISOString(),
        ...lying,
      } as const;
      await tasks.send(task, {}, lease.signal);
    }
    await cursors.advance(mailbox.id, cursor, wanted, lease.fence);
    // A run that has not passed its first cursor has made no progress that another run could continue from.
    if (messages.length === 0 || clock.now() < run.until) continue;
    const ms = clock.now() - run.began;
    return emit({
      kind: "mailbox.poll_overran",
      mailbox: mailbox.id,
      ms,
      missed: 1,
      finished: false,
      processLock: false,
    });
  }
}
