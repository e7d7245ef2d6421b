/**
 * Outgoing messages in Redis. Each is stored with its mailbox, so one step decides about its Idempotency-Key, the
 * hourly limit and the claim. An index over all mailboxes (outbox-index.ts) says where a sending is stored and when it
 * is due. The index is written before a sending is added and after it was changed, so every queued sending is in it. It
 * may have entries too many; whoever finds one drops it.
 */
import * as v from "valibot";
import { Problem } from "../../contract/problem.ts";
import { Sending, SendState } from "../../contract/sending.ts";
import { clock } from "../../time.ts";
import type { RedisConnection } from "./connection/client.ts";
import { idFromKey, timeKey } from "./deliveries/indexes.ts";
import type { RedisKeys } from "./keys.ts";
import type { OutboxIndex } from "./outbox-index.ts";
import { ACCEPT, CLAIM, COUNT_AUTOMATIC, DROP, SAVE } from "./outbox-scripts.ts";
import { listOf, numberOf, textOf, textOrNull, textsOf } from "./connection/reply.ts";
import { type MessagePlace, readMessage, sealMessage, transferTimeoutMs } from "./sealing/messages.ts";
import { encodePageToken, decodePageToken } from "../page-token.ts";
import type { Acceptance, Outbox, Page, SendingQuery } from "../store.ts";
import { isSpent } from "../outbox-rules.ts";
import type { MailboxSealing } from "../mailbox-sealing.ts";
import type { Vault } from "../vault.ts";

/** Bytes expire if their sending was never written. */
const UNSAVED_TTL_SECONDS = 600;

type RedisOutboxDeps = {
  redis: RedisConnection;
  keys: RedisKeys;
  vault: Vault;
  sealing: MailboxSealing;
  index: OutboxIndex;
  /** See sealing/canaries.ts. */
  announceKey: () => Promise<void>;
};

export function redisOutbox(deps: RedisOutboxDeps): Outbox {
  const { redis, keys, index } = deps;
  return {
    async accept(sending, raw, perHour) {
      const spooled = await sealMessage(placeOf(keys, sending.mailbox, sending.id), raw, deps);
      return accept(deps, sending, { spooled, perHour });
    },
    async get(id) {
      const mailbox = await index.findMailbox(id);
      return mailbox === undefined ? undefined : readSending(deps, mailbox, id);
    },
    async getRaw(id) {
      const mailbox = await index.findMailbox(id);
      return mailbox === undefined ? undefined : readMessage(redis, placeOf(keys, mailbox, id), deps.vault);
    },
    async claim(id, ttlMs) {
      const mailbox = await index.findMailbox(id);
      if (mailbox === undefined) return undefined;
      const reply = await redis.run(CLAIM, keys.mailboxPrefix(mailbox), [id, ttlMs, clock.now()]);
      if (reply === null) return undefined;
      const [until, doc] = listOf(reply);
      await index.setDueTime(id, numberOf(until));
      return parseSending(textOf(doc));
    },
    save: (sending, holdMs = 0) => save(deps, sending, holdMs),
    async findByMessageId(mailbox, messageId) {
      const id = textOrNull(await redis.send("hget", [`${keys.mailboxPrefix(mailbox)}outbox:ids`, messageId]));
      return id === null ? undefined : readSending(deps, mailbox, id);
    },
    list: (query) => listSendings(deps, query),
    async listOverdue({ limit, dueBefore }) {
      const found = await index.listDueBefore(Date.parse(dueBefore), limit);
      const sendings = await Promise.all(found.map(({ mailbox, id }) => readSending(deps, mailbox, id)));
      const stale = found.filter((_, n) => sendings[n]?.state !== "queued");
      for (const { id } of stale) await repairIndex(deps, id);
      return found.filter((one) => !stale.includes(one));
    },
    async recordAutomatic(mailbox, address, way) {
      await redis.run(COUNT_AUTOMATIC, keys.mailboxPrefix(mailbox), [automaticKey(address, way)]);
    },
    async getAutomaticTraffic(mailbox, address) {
      const names = (["heard", "sent"] as const).map((way) => keys.mailboxPrefix(mailbox) + automaticKey(address, way));
      const [heard, sent] = listOf(await redis.send("mget", names)).map((count) => numberOf(count ?? 0));
      return { heard: heard ?? 0, sent: sent ?? 0 };
    },
  };
}

async function accept(
  { redis, keys, index, announceKey }: RedisOutboxDeps,
  sending: Sending,
  { spooled, perHour }: { spooled: Buffer; perHour: number },
): Promise<Acceptance> {
  const accepted = { ...sending, revision: 1 };
  const { id, mailbox, key, messageId } = accepted;
  await Promise.all([announceKey(), index.reserve(accepted, spooled.length)]);
  await redis.send(
    "set",
    [rawBytesKey(keys, mailbox, id), spooled, "ex", UNSAVED_TTL_SECONDS],
    transferTimeoutMs(spooled.length),
  );
  const record = [
    id,
    key ?? "",
    dueTime(accepted),
    createdTimeKey(accepted),
    JSON.stringify(accepted),
    perHour,
    messageId,
  ];
  const [reply] = await Promise.all([redis.run(ACCEPT, keys.mailboxPrefix(mailbox), record), announceKey()]);
  const [kind, detail] = textsOf(reply);
  if (kind === "accepted") return { kind, sending: accepted };
  await index.remove([id]);
  await redis.send("unlink", [rawBytesKey(keys, mailbox, id)]);
  if (kind === "limited") return { kind, until: new Date(Number(detail)) };
  const before = parseSending(detail ?? "");
  return { kind: before.contentHash === sending.contentHash ? "known" : "differs", sending: before };
}

async function save({ redis, keys, index }: RedisOutboxDeps, sending: Sending, holdMs: number): Promise<Sending> {
  const saved = { ...sending, revision: sending.revision + 1 };
  const { id, mailbox, state, serverMessageId } = saved;
  const spent = isSpent(saved);
  const record = [id, sending.revision, state, dueTime(saved), createdTimeKey(saved), JSON.stringify(saved)];
  const args = [...record, holdMs, serverMessageId ?? "", Number(spent)];
  const claimedUntil = await redis.run(SAVE, keys.mailboxPrefix(mailbox), args);
  if (claimedUntil === null)
    throw new Problem("conflict", `The sending ${id} was changed meanwhile`, { retry: "never" });
  if (state === "queued") await index.setDueTime(id, Math.max(numberOf(claimedUntil), dueTime(saved)));
  else await index.markFinished(saved, spent);
  return saved;
}

async function readSending(
  { redis, keys }: RedisOutboxDeps,
  mailbox: string,
  id: string,
): Promise<Sending | undefined> {
  const record = textOrNull(await redis.send("hget", [`${keys.mailboxPrefix(mailbox)}outbox`, id]));
  return record === null ? undefined : parseSending(record.replace(/^\w+ \d+ \d+ \w+ /, ""));
}

/** Corrects the index entry from the sending itself, after a crash between the two writes. */
async function repairIndex(deps: RedisOutboxDeps, id: string): Promise<void> {
  const mailbox = await deps.index.findMailbox(id);
  const sending = mailbox === undefined ? undefined : await readSending(deps, mailbox, id);
  if (!sending) await deps.index.remove([id]);
  else if (sending.state !== "queued") await deps.index.markFinished(sending, isSpent(sending));
}

/** Deletes sendings that ended before a time (ms). */
export async function pruneSent(deps: RedisOutboxDeps, before: number): Promise<void> {
  for (;;) {
    const old = await deps.index.listFinishedBefore(before, PAGE_SIZE);
    for (const { id, mailbox } of old) {
      const sending = await readSending(deps, mailbox, id);
      const names = sending ? [sending.key ?? "", sending.messageId, sending.serverMessageId ?? ""] : ["", "", ""];
      await deps.redis.run(DROP, deps.keys.mailboxPrefix(mailbox), [id, ...names]);
    }
    await deps.index.remove(old.map(({ id }) => id));
    if (old.length < PAGE_SIZE) return;
  }
}

const PAGE_SIZE = 200;

async function listSendings(deps: RedisOutboxDeps, query: SendingQuery): Promise<Page<Sending>> {
  const { redis, keys } = deps;
  const states = query.state === undefined ? SendState.options : [query.state];
  const from = query.cursor === undefined ? "+" : `(${decodePageToken(query.cursor, 1)[0]}`;
  const set = (state: string) => `${keys.mailboxPrefix(query.mailbox)}outbox:list:${state}`;
  const [found, totals] = await Promise.all([
    Promise.all(
      states.map((state) => redis.send("zrevrangebylex", [set(state), from, "-", "limit", 0, query.limit + 1])),
    ),
    Promise.all(states.map((state) => redis.send("zcard", [set(state)]))),
  ]);
  const newest = [...new Set(found.flatMap(textsOf))].toSorted((a, b) => (a < b ? 1 : -1));
  const page = newest.slice(0, query.limit);
  const items = await Promise.all(page.map((key) => readSending(deps, query.mailbox, idFromKey(key))));
  const last = page.at(-1);
  return {
    items: items.filter((one) => one !== undefined),
    next: newest.length > query.limit && last !== undefined ? encodePageToken([last]) : null,
    total: totals.reduce<number>((sum, count) => sum + numberOf(count), 0),
  };
}

function automaticKey(address: string, way: string): string {
  return `automatic:${way}:${address.toLowerCase()}`;
}

function parseSending(doc: string): Sending {
  return v.parse(Sending, JSON.parse(doc));
}

function dueTime({ nextAttemptAt }: Sending): number {
  return nextAttemptAt === null ? 0 : Date.parse(nextAttemptAt);
}

function createdTimeKey({ createdAt }: Sending): string {
  return timeKey(Date.parse(createdAt));
}

function placeOf(keys: RedisKeys, mailbox: string, id: string): MessagePlace {
  return { prefix: keys.mailboxPrefix(mailbox), kind: "outbox:raw:", id };
}

function rawBytesKey(keys: RedisKeys, mailbox: string, id: string): string {
  return `${keys.mailboxPrefix(mailbox)}outbox:raw:${id}`;
}
