/**
 * Messages whose folder was renumbered before their download. Their uids mean nothing any more, but the messages may
 * still exist.
 */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import type { MessageRef } from "../../shared/contract/message.ts";
import type { DeliverTask } from "../../shared/contract/task.ts";
import type { TaskSender } from "../../shared/queue/queue.ts";
import type { Store } from "../../shared/store/store.ts";
import type { Emit } from "../../shared/telemetry/events.ts";
import { clock } from "../../shared/time.ts";
import { OWN_CONNECTION, type ReaderPool } from "../mail/reader-pool.ts";

type RenumberedDeps = {
  store: Pick<Store, "cursors" | "ledger">;
  readers: ReaderPool;
  tasks: TaskSender;
  emit: Emit;
};

/**
 * The subscription reads a renumbered folder again from a day before the newest message. It does not see older messages
 * again.
 */
const REREAD_MS = 24 * 3_600_000;
const MINUTE_MS = 60_000;

/**
 * Settles messages with old uids, once the subscription knows the new ones and reads the folder again. Messages too old
 * for that, and those of a replay, are searched by date and size, and handed over with their new uids. None is
 * settled while the subscription still has the old uids, because then only this connection saw others. `absent` are those that the
 * search did not find, which is no proof that they are gone.
 */
export async function settleRenumbered(
  deps: RenumberedDeps,
  mailbox: Mailbox,
  { messages: refs, replays = {} }: Pick<DeliverTask, "messages" | "replays">,
  signal: AbortSignal,
): Promise<{ settled: MessageRef[]; absent: MessageRef[] }> {
  const cursors = await deps.store.cursors.read(mailbox.id);
  const renumbered = refs.filter(({ folder, epoch }) =>
    cursors.some((cursor) => cursor.folder === folder && cursor.epoch !== epoch),
  );
  const unseen = renumbered.filter(
    ({ uid, receivedAt }) => replays[uid] !== undefined || Date.parse(receivedAt) < clock.now() - REREAD_MS,
  );
  const found = unseen.length === 0 ? [] : await handOverAnew(deps, mailbox, { messages: unseen, replays }, signal);
  const absent = unseen.filter((ref) => !takeFrom(found, keyOf(ref)));
  const settled = renumbered.filter((ref) => !absent.includes(ref));
  const [first] = settled;
  if (!first) return { settled, absent };
  await deps.store.ledger.markDone(mailbox.id, settled);
  deps.emit({ kind: "mail.renumbered", mailbox: mailbox.id, folder: first.folder, count: settled.length });
  return { settled, absent };
}

/**
 * Returns the keys of the messages that were handed over. Other messages of the same date and size may be among them. The ledger knows
 * their content.
 */
async function handOverAnew(
  { store, readers, tasks }: RenumberedDeps,
  mailbox: Mailbox,
  { messages: refs, replays }: { messages: MessageRef[]; replays: Record<string, string> },
  signal: AbortSignal,
): Promise<string[]> {
  const found: string[] = [];
  const wanted = new Map(refs.map((ref) => [keyOf(ref), replays[ref.uid]]));
  const oldest = Math.min(...refs.map(({ receivedAt }) => Date.parse(receivedAt)));
  const cursors = await store.cursors.read(mailbox.id);
  const search = async (connection: Parameters<Parameters<ReaderPool["use"]>[2]>[0]) => {
    for await (const batch of connection.listSince(new Date(oldest - MINUTE_MS), cursors, signal)) {
      const messages = batch.filter((ref) => wanted.has(keyOf(ref)));
      if (messages.length === 0) continue;
      await store.cursors.reopen(mailbox.id, messages);
      const replayed = messages.flatMap((ref) => {
        const id = wanted.get(keyOf(ref));
        return id === undefined ? [] : [[ref.uid, id]];
      });
      await tasks.send({
        version: 1,
        kind: "deliver",
        mailbox: mailbox.id,
        messages,
        again: false,
        replays: Object.fromEntries(replayed),
      });
      found.push(...messages.map(keyOf));
    }
  };
  await readers.use(mailbox, OWN_CONNECTION, search, signal);
  return found;
}

/** Removes the key from the list once; false if it is not there. */
function takeFrom(keys: string[], key: string): boolean {
  const index = keys.indexOf(key);
  if (index >= 0) keys.splice(index, 1);
  return index >= 0;
}

const keyOf = ({ folder, receivedAt, size }: MessageRef) => JSON.stringify([folder, receivedAt, size]);
