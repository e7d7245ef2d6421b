/**
 * Moving an embedded store to Redis, mailbox by mailbox. Each arrives paused, gets all that belongs to it, and is listened to only then; what
 * was moved is noted in Redis, so that doing it again goes on where it stopped and leaves alone what lives there already.
 */
import * as v from "valibot";
import type { Config } from "../../shared/config.ts";
import { Problem } from "../../shared/contract/problem.ts";
import { Task } from "../../shared/contract/task.ts";
import type { TaskSender } from "../../shared/queue/queue.ts";
import { type RedisKeys, redisKeys } from "../../shared/store/redis/keys.ts";
import { importPrints } from "../../shared/store/redis/import.ts";
import type { RedisStore } from "../../shared/store/redis/store.ts";
import { deliveredPrints, exceptions, sendingIds } from "../../shared/store/sqlite/contents.ts";
import { integer, text } from "../../shared/store/sqlite/row.ts";
import type { SqliteStore } from "../../shared/store/sqlite/store.ts";
import type { MailboxWithState } from "../../shared/store/store.ts";

export type Moved = {
  mailboxes: number;
  /** Moved by an earlier run. */
  movedBefore: number;
  /** Registered there by somebody else; nothing of them was moved. */
  leftAlone: number;
  cursors: number;
  unfinishedMessages: number;
  deliveries: number;
  sendings: number;
  fingerprints: number;
  tasks: number;
};

type Deps = { from: SqliteStore; to: RedisStore; tasks: TaskSender | undefined; config: Config };
type Moving = Deps & { keys: RedisKeys; moved: Moved };

const PAGE = 500;
const DAY_MS = 24 * 3_600_000;
/** What can be found again without its task: deliveries and sendings say themselves when they are due. */
const FOUND_AGAIN = new Set(["redeliver", "send"]);
/** No bound: these were counted when they were accepted. */
const NO_LIMIT = 1_000_000_000;

/** Throws `config` when there are tasks that only a broker can take, and none is given. */
export async function moveAll(deps: Deps): Promise<Moved> {
  const moved: Moved = {
    mailboxes: 0,
    movedBefore: 0,
    leftAlone: 0,
    cursors: 0,
    unfinishedMessages: 0,
    deliveries: 0,
    sendings: 0,
    fingerprints: 0,
    tasks: 0,
  };
  const moving = { ...deps, keys: redisKeys(deps.config.REDIS_PREFIX), moved };
  if (!deps.tasks) refuseUnfinished(deps);
  for (let cursor: string | undefined; ;) {
    const page = await deps.from.mailboxes.list({ limit: PAGE, ...(cursor !== undefined && { cursor }) });
    for (const item of page.items) await moveMailbox(moving, item);
    if (page.next === null) return moved;
    cursor = page.next;
  }
}

async function moveMailbox(moving: Moving, item: MailboxWithState): Promise<void> {
  const { to, keys, moved } = moving;
  const { id } = item.mailbox;
  const book = `${keys.all}moved`;
  const noted = await to.redis.send("hget", [book, id]);
  if (noted === "done") return void (moved.movedBefore += 1);
  const there = await to.mailboxes.get(id);
  if (there && noted === null) return void (moved.leftAlone += 1);
  await to.redis.send("hset", [book, id, "begun"]);
  const paused = there?.mailbox ?? (await to.mailboxes.put({ ...item.mailbox, revision: 0, paused: true }, item.state));
  await moveLedger(moving, id);
  await moveDeliveries(moving, id);
  await moveSendings(moving, id);
  await to.facts.append((await moving.from.facts.recent(id, 200)).toReversed());
  await moveTasks(moving, id);
  if (!item.mailbox.paused) await to.mailboxes.put({ ...paused, paused: false }, { ...item.state, node: null });
  await to.redis.send("hset", [book, id, "done"]);
  moved.mailboxes += 1;
}

/** Fingerprints come first and cursors after, so that nothing is taken for new before what is known of it has arrived. */
async function moveLedger({ from, to, keys, config, moved }: Moving, id: string): Promise<void> {
  const windowDays = config.WINDOW_DAYS;
  const prints = deliveredPrints(from.database, id, Date.now() - windowDays * DAY_MS);
  await importPrints({ redis: to.redis, keys, windowDays }, id, prints);
  moved.fingerprints += prints.length;
  const { open, ahead } = exceptions(from.database, id);
  const fence = await to.cursors.fence(id);
  for (const cursor of await from.cursors.read(id)) {
    const unfinished = open.filter(({ folder, epoch }) => folder === cursor.folder && epoch === cursor.epoch);
    await to.cursors.advance(id, cursor, unfinished, fence);
    moved.cursors += 1;
    moved.unfinishedMessages += unfinished.length;
  }
  await to.ledger.claim(id, ahead, 1_000);
  await to.ledger.settle(id, ahead);
}

/** With their raw bytes; those that are there already may have gone on since. */
async function moveDeliveries({ from, to, moved }: Moving, id: string): Promise<void> {
  for (let cursor: string | undefined; ;) {
    const page = await from.deliveries.list({ limit: PAGE, mailbox: id, ...(cursor !== undefined && { cursor }) });
    for (const delivery of page.items) {
      moved.deliveries += 1;
      if (await to.deliveries.get(delivery.id)) continue;
      await to.deliveries.save(delivery, await from.deliveries.raw(delivery.id));
    }
    if (page.next === null) return;
    cursor = page.next;
  }
}

/** Sent ones too: their keys keep a repeated request from being another message. */
async function moveSendings({ from, to, moved }: Moving, id: string): Promise<void> {
  for (const sending of sendingIds(from.database, id)) {
    const found = await from.outbox.get(sending);
    if (!found) continue;
    moved.sendings += 1;
    if (await to.outbox.get(sending)) continue;
    const raw = (await from.outbox.raw(sending)) ?? new Uint8Array();
    await to.outbox.accept({ ...found, revision: 0 }, raw, NO_LIMIT);
  }
}

/** Tasks may be sent twice when this is interrupted: the ledger and the deliveries' records make one of it. */
async function moveTasks({ from, tasks, moved }: Moving, id: string): Promise<void> {
  if (!tasks) return;
  for (const row of from.database.all("select task, due_at from tasks where lane = ? order by due_at", id)) {
    const task = v.parse(Stored, text(row, "task"));
    await tasks.send(task, { notBefore: new Date(integer(row, "due_at")) });
    moved.tasks += 1;
  }
}

const Stored = v.pipe(v.string(), v.parseJson(), Task);

function refuseUnfinished({ from }: Deps): void {
  const rows = from.database.all("select task from tasks");
  const kinds = rows.map((row) => v.parse(Stored, text(row, "task")).kind).filter((kind) => !FOUND_AGAIN.has(kind));
  if (kinds.length === 0) return;
  const told = `${kinds.length} tasks are not done yet (${[...new Set(kinds)].join(", ")}), and without RabbitMQ there is no place for them`;
  throw new Problem("config", `${told}: set RABBITMQ_URL, or let the node finish them before it is stopped`, {
    retry: "never",
    errors: [{ path: "RABBITMQ_URL", message: "must be set while tasks are waiting" }],
  });
}
