/**
 * Moves a SQLite store to Redis, mailbox by mailbox. Each mailbox arrives paused, gets all its data, and is enabled
 * only then. Redis records what was moved, so a second run continues where the first one stopped and does not touch
 * what is there already.
 */
import * as v from "valibot";
import type { Config } from "../../shared/config.ts";
import { StoredTask } from "../../shared/contract/task.ts";
import type { TaskSender } from "../../shared/queue/queue.ts";
import { type RedisKeys, redisKeys } from "../../shared/store/redis/keys.ts";
import { importFingerprints } from "../../shared/store/redis/import.ts";
import type { RedisStore } from "../../shared/store/redis/store.ts";
import { listDeliveredFingerprints, readLedgerExceptions, listSendingIds } from "../../shared/store/sqlite/contents.ts";
import { integer, text } from "../../shared/store/sqlite/row.ts";
import type { SqliteStore } from "../../shared/store/sqlite/store.ts";
import type { MailboxWithState } from "../../shared/store/store.ts";
import { periodOf } from "../../shared/telemetry/tallies.ts";
import { clock } from "../../shared/time.ts";
import { type MovedDocuments, moveDocuments, type Progress } from "./move-documents.ts";

type MoveCounts = {
  mailboxes: number;
  /** Mailboxes that an earlier run moved. */
  movedBefore: number;
  /** Mailboxes that somebody else registered in Redis. Nothing of them was moved. */
  leftAlone: number;
  cursors: number;
  unfinishedMessages: number;
  deliveries: number;
  sendings: number;
  fingerprints: number;
  tasks: number;
  tokens: number;
  applications: number;
  auditEntries: number;
};
export type MoveReport = MoveCounts & MovedDocuments;

type MoveStoreDeps = { from: SqliteStore; to: RedisStore; tasks: TaskSender; config: Config };
type MoveContext = MoveStoreDeps & { keys: RedisKeys; moved: MoveCounts };

const PAGE = 500;
const DAY_MS = 24 * 3_600_000;
/** No limit here, because these messages were counted when they were accepted. */
const NO_LIMIT = 1_000_000_000;

export async function moveStore(deps: MoveStoreDeps): Promise<MoveReport> {
  const moved: MoveCounts = {
    mailboxes: 0,
    movedBefore: 0,
    leftAlone: 0,
    cursors: 0,
    unfinishedMessages: 0,
    deliveries: 0,
    sendings: 0,
    fingerprints: 0,
    tasks: 0,
    tokens: 0,
    applications: 0,
    auditEntries: 0,
  };
  const moving = { ...deps, keys: redisKeys(deps.config.REDIS_PREFIX), moved };
  // Mailboxes that arrive find their application there.
  await moveApplications(moving);
  for (let cursor: string | undefined; ;) {
    const page = await deps.from.mailboxes.list({ limit: PAGE, ...(cursor !== undefined && { cursor }) });
    for (const item of page.items) await moveMailbox(moving, item);
    if (page.next === null) break;
    cursor = page.next;
  }
  await moveAccess(moving);
  await moveCounts(moving);
  return { ...moved, ...(await moveDocuments(deps.from, deps.to, progressOf(moving))) };
}

function progressOf({ to, keys }: MoveContext): Progress {
  const key = `${keys.globalPrefix}moved:documents`;
  return {
    has: async (what) => (await to.redis.send("hexists", [key, what])) === 1,
    add: async (what) => void (await to.redis.send("hset", [key, what, "done"])),
  };
}

/** Those that somebody removed in Redis since an earlier run do not come back, and changed ones stay as they are. */
async function moveApplications({ from, to, keys, moved }: MoveContext): Promise<void> {
  const progressKey = `${keys.globalPrefix}moved:applications`;
  for (const application of await from.applications.list()) {
    const { id } = application;
    if ((await to.redis.send("hexists", [progressKey, id])) === 1) continue;
    if (!(await to.applications.get(id))) await to.applications.put({ ...application, revision: 0 });
    await to.redis.send("hset", [progressKey, id, "done"]);
    moved.applications += 1;
  }
}

/** Tokens that a client has revoked in Redis since an earlier run do not come back. */
async function moveAccess({ from, to, keys, moved }: MoveContext): Promise<void> {
  const progressKey = `${keys.globalPrefix}moved:tokens`;
  for (const token of (await from.tokens.list()).tokens) {
    if ((await to.redis.send("hexists", [progressKey, token.id])) === 1) continue;
    if (!(await to.tokens.get(token.id))) await to.tokens.add(token);
    if (token.lastUsedAt !== null) await to.tokens.recordUse(token.id, token.lastUsedAt);
    await to.redis.send("hset", [progressKey, token.id, "done"]);
    moved.tokens += 1;
  }
  for (let cursor: string | undefined; ;) {
    const page = await from.audit.list({ limit: PAGE, ...(cursor !== undefined && { cursor }) });
    for (const entry of page.items) await to.audit.put(entry);
    moved.auditEntries += page.items.length;
    if (page.next === null) return;
    cursor = page.next;
  }
}

async function moveMailbox(moving: MoveContext, item: MailboxWithState): Promise<void> {
  const { to, keys, moved } = moving;
  const { id } = item.mailbox;
  const progressKey = `${keys.globalPrefix}moved`;
  const progress = await to.redis.send("hget", [progressKey, id]);
  if (progress === "done") return void (moved.movedBefore += 1);
  const existing = await to.mailboxes.get(id);
  if (existing && progress === null) return void (moved.leftAlone += 1);
  await to.redis.send("hset", [progressKey, id, "begun"]);
  const paused =
    existing?.mailbox ?? (await to.mailboxes.put({ ...item.mailbox, revision: 0, paused: true }, item.state));
  await moveLedger(moving, id);
  await moveDeliveries(moving, id);
  await moveSendings(moving, id);
  await to.facts.append((await moving.from.facts.recent(id, 200)).toReversed());
  await moveMeasured(moving, id);
  await moveTasks(moving, id);
  if (!item.mailbox.paused) await to.mailboxes.put({ ...paused, paused: false }, { ...item.state, node: null });
  await to.redis.send("hset", [progressKey, id, "done"]);
  moved.mailboxes += 1;
}

/** The last day of a mailbox, as far as the runs of its node are known. */
async function moveMeasured({ from, to }: MoveContext, id: string): Promise<void> {
  const [measured] = await from.measures.readMailboxes([id]);
  const runs = new Map((await from.measures.listRuns()).map((run) => [run.id, run]));
  for (const { run: name, ...report } of measured?.states ?? []) {
    const run = runs.get(name);
    if (run) await to.measures.record(run, [{ mailbox: id, ...report }]);
  }
  if (measured && measured.latencyMs !== null) {
    const latencies = [{ mailbox: id, ms: measured.latencyMs }];
    await to.measures.count({ at: periodOf(clock.now()), add: {}, set: {}, latencies });
  }
}

/** What the nodes of Redis have counted already stays as it is. */
async function moveCounts({ from, to }: MoveContext): Promise<void> {
  const dayAgo = clock.now() - DAY_MS;
  const counted = new Set((await to.measures.readPeriods(dayAgo)).map(({ at }) => at));
  for (const { at, values } of await from.measures.readPeriods(dayAgo))
    if (!counted.has(at)) await to.measures.count({ at, add: {}, set: Object.fromEntries(values), latencies: [] });
}

/** Fingerprints come first and cursors after, so that nothing counts as new before its record has arrived. */
async function moveLedger({ from, to, keys, config, moved }: MoveContext, id: string): Promise<void> {
  const windowDays = config.WINDOW_DAYS;
  const fingerprints = listDeliveredFingerprints(from.database, id, clock.now() - windowDays * DAY_MS);
  await importFingerprints({ redis: to.redis, keys, windowDays }, id, fingerprints);
  moved.fingerprints += fingerprints.length;
  const { open, ahead } = readLedgerExceptions(from.database, id);
  const fence = await to.cursors.issueFence(id);
  for (const cursor of await from.cursors.read(id)) {
    const unfinished = open.filter(({ folder, epoch }) => folder === cursor.folder && epoch === cursor.epoch);
    await to.cursors.advance(id, cursor, unfinished, fence);
    moved.cursors += 1;
    moved.unfinishedMessages += unfinished.length;
  }
  await to.ledger.claim(id, ahead, 1_000);
  await to.ledger.markDone(id, ahead);
}

/** With their raw bytes. Those that are in Redis already may have changed since. */
async function moveDeliveries({ from, to, moved }: MoveContext, id: string): Promise<void> {
  for (let cursor: string | undefined; ;) {
    const page = await from.deliveries.list({ limit: PAGE, mailbox: id, ...(cursor !== undefined && { cursor }) });
    for (const delivery of page.items) {
      moved.deliveries += 1;
      if (await to.deliveries.get(delivery.id)) continue;
      await to.deliveries.save(delivery, await from.deliveries.getRaw(delivery.id));
    }
    if (page.next === null) return;
    cursor = page.next;
  }
}

/** Also sent ones: their keys keep a repeated request from becoming another message. */
async function moveSendings({ from, to, moved }: MoveContext, id: string): Promise<void> {
  for (const sending of listSendingIds(from.database, id)) {
    const found = await from.outbox.get(sending);
    if (!found) continue;
    moved.sendings += 1;
    if (await to.outbox.get(sending)) continue;
    const raw = (await from.outbox.getRaw(sending)) ?? new Uint8Array();
    await to.outbox.accept({ ...found, revision: 0 }, raw, NO_LIMIT);
  }
}

/** Tasks may be sent twice when this is interrupted. The ledger and the deliveries' records make one of them. */
async function moveTasks({ from, tasks, moved }: MoveContext, id: string): Promise<void> {
  const waiting = from.database.all("select task, due_at from tasks where lane = ? order by due_at", id);
  // In the new store a parked task is tried again, and parked again if it fails.
  const parked = from.database.all("select task, 0 as due_at from parked_tasks where lane = ?", id);
  for (const row of [...waiting, ...parked]) {
    const task = v.parse(StoredTask, text(row, "task"));
    await tasks.send(task, { notBefore: new Date(integer(row, "due_at")) });
    moved.tasks += 1;
  }
}
