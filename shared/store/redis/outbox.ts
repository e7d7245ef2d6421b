/**
 * Outgoing messages in Redis: each lies with its mailbox, so that its key, its share of the hour and its claim are decided in one step.
 * An index over all mailboxes (redis-outbox-index.ts) says where a sending lies and when it is due; it is written before a sending is
 * taken up and after it was changed, so it never lacks one that is queued, and what it names too many is dropped by whoever finds it.
 */
import * as v from "valibot";
import { Problem } from "../../contract/problem.ts";
import { Sending, SendState } from "../../contract/sending.ts";
import { packed, unpacked } from "../packing.ts";
import { type RedisConnection, redisScript } from "../redis-client.ts";
import { idOfKey, timeKey } from "../redis-delivery-index.ts";
import type { RedisKeys } from "./keys.ts";
import { LUA_CLOCK } from "./ledger.ts";
import type { OutboxIndex } from "./outbox-index.ts";
import { listOf, numberOf, textOf, textOrNull, textsOf } from "../redis-reply.ts";
import { markAfter, readMark } from "../page-token.ts";
import { isSpent } from "../sqlite/outbox.ts";
import type { Acceptance, Outbox, Page, SendingQuery } from "../store.ts";

const HOUR_MS = 3_600_000;
/** Bytes whose sending was never written go by themselves. */
const UNSAVED_SECONDS = 600;
/** Clocks of nodes differ a little: a sending is due this much early rather than overlooked when its task has come. */
const EARLY_MS = 500;
/** The time a command may take, and more for many bytes: 4 MB/s. */
const transferMs = (bytes: number) => 5_000 + bytes / 4_000;

/** An entry of a mailbox's `outbox`: state, revision, time due, time made (base 36), document. */
const LUA_OUTBOX = `
  local function sendingOf(id)
    local record = redis.call('HGET', base .. 'outbox', id)
    if not record then return nil end
    local state, revision, due, made, doc = record:match('^(%l+) (%d+) (%d+) (%w+) (.*)$')
    return { state = state, revision = revision, due = tonumber(due), key = made .. id, doc = doc }
  end
  local function write(id, state, revision, due, made, doc)
    redis.call('HSET', base .. 'outbox', id, state .. ' ' .. revision .. ' ' .. due .. ' ' .. made .. ' ' .. doc)
    redis.call('ZADD', base .. 'outbox:list:' .. state, 0, made .. id)
  end
`;

const ACCEPT = redisScript(
  LUA_CLOCK,
  LUA_OUTBOX,
  `
  local id, key, due, made, doc, perHour, messageId = unpack(ARGV)
  if key ~= '' then
    local before = redis.call('HGET', base .. 'outbox:keys', key)
    local record = before and sendingOf(before)
    if record then return { 'known', record.doc } end
  end
  redis.call('ZREMRANGEBYSCORE', base .. 'outbox:hour', '-inf', now - ${HOUR_MS})
  if redis.call('ZCARD', base .. 'outbox:hour') >= tonumber(perHour) then
    local nth = redis.call('ZREVRANGE', base .. 'outbox:hour', perHour - 1, perHour - 1, 'WITHSCORES')
    return { 'limited', whole(nth[2] + ${HOUR_MS}) }
  end
  redis.call('ZADD', base .. 'outbox:hour', now, id)
  redis.call('PEXPIRE', base .. 'outbox:hour', ${HOUR_MS})
  if key ~= '' then redis.call('HSET', base .. 'outbox:keys', key, id) end
  redis.call('HSET', base .. 'outbox:ids', messageId, id)
  redis.call('PERSIST', base .. 'outbox:raw:' .. id)
  write(id, 'queued', 1, due, made, doc)
  return { 'accepted', '' }`,
);

const TAKE = redisScript(
  LUA_CLOCK,
  LUA_OUTBOX,
  `
  local record = sendingOf(ARGV[1])
  if not record or record.state ~= 'queued' then return nil end
  if record.due > math.max(now, tonumber(ARGV[3])) + ${EARLY_MS} then return nil end
  if (tonumber(redis.call('HGET', base .. 'outbox:taken', ARGV[1])) or 0) > now then return nil end
  local till = now + ARGV[2]
  redis.call('HSET', base .. 'outbox:taken', ARGV[1], till)
  return { whole(till), record.doc }`,
);

/** Answers until when it stays taken, or nothing when it was changed meanwhile. */
const SAVE = redisScript(
  LUA_CLOCK,
  LUA_OUTBOX,
  `
  local id, revision, state, due, made, doc, hold, renamed, spent = unpack(ARGV)
  local record = sendingOf(id)
  if not record or record.revision ~= revision then return nil end
  redis.call('ZREM', base .. 'outbox:list:' .. record.state, record.key)
  write(id, state, whole(revision + 1), due, made, doc)
  if renamed ~= '' then redis.call('HSET', base .. 'outbox:ids', renamed, id) end
  if spent == '1' then redis.call('UNLINK', base .. 'outbox:raw:' .. id) end
  local till = 0
  if hold == '0' then redis.call('HDEL', base .. 'outbox:taken', id)
  else
    till = now + hold
    redis.call('HSET', base .. 'outbox:taken', id, till)
  end
  return whole(till)`,
);

/** A sending that is over goes with everything that names it. */
const DROP = redisScript(
  LUA_CLOCK,
  LUA_OUTBOX,
  `
  local id, key, messageId, renamed = unpack(ARGV)
  local record = sendingOf(id)
  if not record or record.state == 'queued' then return 0 end
  local function dropName(hash, name)
    if name ~= '' and redis.call('HGET', base .. hash, name) == id then redis.call('HDEL', base .. hash, name) end
  end
  dropName('outbox:keys', key)
  dropName('outbox:ids', messageId)
  dropName('outbox:ids', renamed)
  redis.call('ZREM', base .. 'outbox:list:' .. record.state, record.key)
  redis.call('HDEL', base .. 'outbox', id)
  redis.call('HDEL', base .. 'outbox:taken', id)
  redis.call('UNLINK', base .. 'outbox:raw:' .. id)
  return 1`,
);

/** All outgoing messages of a mailbox that is gone; the index drops them when it meets them. */
export const LUA_FORGET_OUTBOX = `
  local function forgetOutbox()
    for _, id in ipairs(redis.call('HKEYS', base .. 'outbox')) do redis.call('UNLINK', base .. 'outbox:raw:' .. id) end
    redis.call('UNLINK', base .. 'outbox', base .. 'outbox:taken', base .. 'outbox:keys', base .. 'outbox:ids',
      base .. 'outbox:hour'${SendState.options.map((state) => `, base .. 'outbox:list:${state}'`).join("")})
  end
`;

const COUNT = redisScript(`
  local count = redis.call('INCR', KEYS[1] .. ARGV[1])
  if count == 1 then redis.call('PEXPIRE', KEYS[1] .. ARGV[1], ${HOUR_MS}) end
  return count`);

type Deps = { redis: RedisConnection; keys: RedisKeys; index: OutboxIndex };

export function redisOutbox(deps: Deps): Outbox {
  const { redis, keys, index } = deps;
  return {
    accept: async (sending, raw, perHour) => accept(deps, sending, { spooled: await packed(raw), perHour }),
    async get(id) {
      const mailbox = await index.locate(id);
      return mailbox === undefined ? undefined : read(deps, mailbox, id);
    },
    async raw(id) {
      const mailbox = await index.locate(id);
      if (mailbox === undefined) return undefined;
      const key = rawKey(keys, mailbox, id);
      const bytes = numberOf(await redis.send("strlen", [key]));
      const found = await redis.sendForBytes("get", [key], transferMs(bytes));
      return found instanceof Uint8Array ? unpacked(found) : undefined;
    },
    async take(id, ttlMs) {
      const mailbox = await index.locate(id);
      if (mailbox === undefined) return undefined;
      const reply = await redis.run(TAKE, keys.mailbox(mailbox), [id, ttlMs, Date.now()]);
      if (reply === null) return undefined;
      const [until, doc] = listOf(reply);
      await index.due(id, numberOf(until));
      return opened(textOf(doc));
    },
    save: (sending, holdMs = 0) => save(deps, sending, holdMs),
    async find(mailbox, messageId) {
      const id = textOrNull(await redis.send("hget", [`${keys.mailbox(mailbox)}outbox:ids`, messageId]));
      return id === null ? undefined : read(deps, mailbox, id);
    },
    list: (query) => listed(deps, query),
    async overdue({ limit, dueBefore }) {
      const found = await index.dueBefore(Date.parse(dueBefore), limit);
      const sendings = await Promise.all(found.map(({ mailbox, id }) => read(deps, mailbox, id)));
      const stale = found.filter((_, n) => sendings[n]?.state !== "queued");
      for (const { id } of stale) await mend(deps, id);
      return found.filter((one) => !stale.includes(one));
    },
    async noteAutomatic(mailbox, address, way) {
      await redis.run(COUNT, keys.mailbox(mailbox), [automaticKey(address, way)]);
    },
    async automatic(mailbox, address) {
      const names = (["heard", "sent"] as const).map((way) => keys.mailbox(mailbox) + automaticKey(address, way));
      const [heard, sent] = listOf(await redis.send("mget", names)).map((count) => numberOf(count ?? 0));
      return { heard: heard ?? 0, sent: sent ?? 0 };
    },
  };
}

async function accept(
  { redis, keys, index }: Deps,
  sending: Sending,
  { spooled, perHour }: { spooled: Buffer; perHour: number },
): Promise<Acceptance> {
  const accepted = { ...sending, revision: 1 };
  const { id, mailbox, key, messageId } = accepted;
  await index.announce(accepted, spooled.length);
  await redis.send("set", [rawKey(keys, mailbox, id), spooled, "ex", UNSAVED_SECONDS], transferMs(spooled.length));
  const record = [id, key ?? "", dueOf(accepted), madeOf(accepted), JSON.stringify(accepted), perHour, messageId];
  const [kind, more] = textsOf(await redis.run(ACCEPT, keys.mailbox(mailbox), record));
  if (kind === "accepted") return { kind, sending: accepted };
  await index.forget([id]);
  await redis.send("unlink", [rawKey(keys, mailbox, id)]);
  if (kind === "limited") return { kind, until: new Date(Number(more)) };
  const before = opened(more ?? "");
  return { kind: before.contentHash === sending.contentHash ? "known" : "differs", sending: before };
}

async function save({ redis, keys, index }: Deps, sending: Sending, holdMs: number): Promise<Sending> {
  const saved = { ...sending, revision: sending.revision + 1 };
  const { id, mailbox, state, serverMessageId } = saved;
  const spent = isSpent(saved);
  const record = [id, sending.revision, state, dueOf(saved), madeOf(saved), JSON.stringify(saved)];
  const args = [...record, holdMs, serverMessageId ?? "", Number(spent)];
  const till = await redis.run(SAVE, keys.mailbox(mailbox), args);
  if (till === null) throw new Problem("conflict", `The sending ${id} was changed meanwhile`, { retry: "never" });
  if (state === "queued") await index.due(id, Math.max(numberOf(till), dueOf(saved)));
  else await index.over(saved, spent);
  return saved;
}

async function read({ redis, keys }: Deps, mailbox: string, id: string): Promise<Sending | undefined> {
  const record = textOrNull(await redis.send("hget", [`${keys.mailbox(mailbox)}outbox`, id]));
  return record === null ? undefined : opened(record.replace(/^\w+ \d+ \d+ \w+ /, ""));
}

/** Brings the index up to what the sending itself is, after a crash between the two. */
async function mend(deps: Deps, id: string): Promise<void> {
  const mailbox = await deps.index.locate(id);
  const sending = mailbox === undefined ? undefined : await read(deps, mailbox, id);
  if (!sending) await deps.index.forget([id]);
  else if (sending.state !== "queued") await deps.index.over(sending, isSpent(sending));
}

/** Drops what was over before a time (ms). */
export async function forgetSent(deps: Deps, before: number): Promise<void> {
  for (;;) {
    const old = await deps.index.overBefore(before, PAGE);
    for (const { id, mailbox } of old) {
      const sending = await read(deps, mailbox, id);
      const names = sending ? [sending.key ?? "", sending.messageId, sending.serverMessageId ?? ""] : ["", "", ""];
      await deps.redis.run(DROP, deps.keys.mailbox(mailbox), [id, ...names]);
    }
    await deps.index.forget(old.map(({ id }) => id));
    if (old.length < PAGE) return;
  }
}

const PAGE = 200;

async function listed(deps: Deps, query: SendingQuery): Promise<Page<Sending>> {
  const { redis, keys } = deps;
  const states = query.state === undefined ? SendState.options : [query.state];
  const from = query.cursor === undefined ? "+" : `(${readMark(query.cursor, 1)[0]}`;
  const set = (state: string) => `${keys.mailbox(query.mailbox)}outbox:list:${state}`;
  const [found, totals] = await Promise.all([
    Promise.all(
      states.map((state) => redis.send("zrevrangebylex", [set(state), from, "-", "limit", 0, query.limit + 1])),
    ),
    Promise.all(states.map((state) => redis.send("zcard", [set(state)]))),
  ]);
  const newest = [...new Set(found.flatMap(textsOf))].toSorted((a, b) => (a < b ? 1 : -1));
  const page = newest.slice(0, query.limit);
  const items = await Promise.all(page.map((key) => read(deps, query.mailbox, idOfKey(key))));
  const last = page.at(-1);
  return {
    items: items.filter((one) => one !== undefined),
    next: newest.length > query.limit && last !== undefined ? markAfter([last]) : null,
    total: totals.reduce<number>((sum, count) => sum + numberOf(count), 0),
  };
}

function automaticKey(address: string, way: string): string {
  return `automatic:${way}:${address.toLowerCase()}`;
}

function opened(doc: string): Sending {
  return v.parse(Sending, JSON.parse(doc));
}

function dueOf({ nextAttemptAt }: Sending): number {
  return nextAttemptAt === null ? 0 : Date.parse(nextAttemptAt);
}

function madeOf({ createdAt }: Sending): string {
  return timeKey(Date.parse(createdAt));
}

function rawKey(keys: RedisKeys, mailbox: string, id: string): string {
  return `${keys.mailbox(mailbox)}outbox:raw:${id}`;
}
