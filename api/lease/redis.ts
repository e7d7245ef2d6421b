/**
 * Leases among several nodes: an owner record with each mailbox in Redis, valid as long as its owner's session lives. Taking it gives
 * a new fence, the same that guards the mailbox's cursors. Nothing is renewed for a single mailbox, and nobody asks for one all the time:
 * who waits is woken by news, or by the end of the owner's session.
 */
import { asProblem } from "../../shared/contract/problem.ts";
import { type RedisConnection, redisScript } from "../../shared/store/redis-client.ts";
import { LUA_FENCE } from "../../shared/store/redis/cursors.ts";
import type { RedisKeys } from "../../shared/store/redis/keys.ts";
import { LUA_CLOCK } from "../../shared/store/redis/ledger.ts";
import { listOf, numberOf, textOf } from "../../shared/store/redis-reply.ts";
import { jittered, slept } from "../../shared/time.ts";
import type { Lease, Leases } from "./lease.ts";
import type { News } from "../../shared/nodes/cluster-events.ts";
import type { NodeInfo, Session, Sessions } from "../../shared/nodes/heartbeats.ts";
import { singleLeases } from "./single.ts";

/** ARGV[2] is a session known to be over: sessions are never revived, so its records may be taken. */
const TAKE = redisScript(
  LUA_CLOCK,
  LUA_FENCE,
  `
  local owner = redis.call('HGET', base .. 'lease', 'session')
  if owner and owner ~= ARGV[1] and owner ~= ARGV[2] then return { 0, owner } end
  redis.call('HSET', base .. 'lease', 'session', ARGV[1])
  return { 1, nextFence() }`,
);

const GIVE_UP = redisScript(`
  if redis.call('HGET', KEYS[1] .. 'lease', 'session') ~= ARGV[1] then return 0 end
  return redis.call('HDEL', KEYS[1] .. 'lease', 'session')`);

export interface RedisLeases extends Leases {
  /** Wakes those who wait, and tells others what was given up, until the signal aborts. */
  run(signal: AbortSignal): Promise<void>;
}

type Deps = { redis: RedisConnection; keys: RedisKeys; news: News; sessions: Sessions };
type Waiting = { owner: string; wake: () => void };

/** A look after the waiting ones without any news, in case some got lost. */
const LOOK_EVERY_MS = 15_000;
/** Releases of so long a time are told together, and so many in one message. */
const TELL_EVERY_MS = 20;
const TOLD_TOGETHER = 500;
const RETRY_MS = 1_000;

export function redisLeases(deps: Deps): RedisLeases {
  const { redis, keys, sessions, news } = deps;
  /** In this process one after the other. */
  const turns = singleLeases({ fence: async () => 0 });
  const waiting = new Map<string, Waiting>();
  /** Mailboxes that may have a record of this node, each with the session it is under. */
  const recorded = new Map<string, string>();
  const held = new Set<string>();
  const released = new Set<string>();
  let tell = new AbortController();

  const giveUp = async (key: string, session: string) => {
    await redis.run(GIVE_UP, keys.mailbox(key), [session]);
    recorded.delete(key);
    released.add(key);
    tell.abort();
  };

  /** One try. Not the owner: resolves without a lease once it is worth trying again. */
  const attempt = async (key: string, session: Session, signal: AbortSignal): Promise<number | undefined> => {
    const { promise: woken, resolve: wake } = Promise.withResolvers<void>();
    const entry: Waiting = { owner: "", wake };
    // Before asking, so that no news is missed between the answer and the wait, and no record whose answer was lost.
    waiting.set(key, entry);
    recorded.set(key, session.id);
    try {
      const found = await taken(deps, key, session.id);
      if (typeof found === "number") return found;
      recorded.delete(key);
      entry.owner = found;
      await unlessAborted(woken, signal);
      return undefined;
    } finally {
      waiting.delete(key);
    }
  };

  /** Waits until the mailbox is this node's; a Redis that is away is waited for. */
  const own = async (key: string, signal: AbortSignal): Promise<{ session: Session; fence: number }> => {
    for (;;) {
      const session = await sessions.session(signal);
      try {
        const fence = await attempt(key, session, signal);
        if (fence !== undefined && !session.signal.aborted) return { session, fence };
      } catch (error) {
        if (signal.aborted || asProblem(error).retry === "never") throw error;
        await slept(jittered(RETRY_MS), signal);
      }
    }
  };

  const underLease = async <T>(key: string, work: (lease: Lease) => Promise<T>, signal: AbortSignal): Promise<T> => {
    held.add(key);
    try {
      const { session, fence } = await own(key, signal);
      try {
        signal.throwIfAborted();
        return await work({ key, fence, signal: AbortSignal.any([signal, session.signal]) });
      } finally {
        // A session that is over owns nothing. A record that Redis does not hear of now stays in `recorded`, for `run`.
        if (!session.signal.aborted) await giveUp(key, session.id).catch(() => undefined);
      }
    } finally {
      held.delete(key);
    }
  };

  /** Records that nobody here holds are given up once Redis hears of it; those of a session that is over are void. */
  const giveUpForgotten = async (signal: AbortSignal) => {
    const present = sessions.known().own;
    for (const [key, session] of recorded) {
      if (held.has(key)) continue;
      if (session !== present) recorded.delete(key);
      else await turns.hold(key, async () => recorded.has(key) && giveUp(key, session), signal);
    }
  };

  const wakeThose = (whose: (owner: string) => boolean) => {
    for (const { owner, wake } of waiting.values()) if (owner !== "" && whose(owner)) wake();
  };

  const rounds = async (signal: AbortSignal) => {
    for (let looked = performance.now(); !signal.aborted;) {
      tell = new AbortController();
      if (released.size === 0) await slept(RETRY_MS, AbortSignal.any([signal, tell.signal]));
      await slept(TELL_EVERY_MS, signal);
      // Redis is away: `sessions` says so, and what was not told is still there in the next round.
      await tellReleased(news, released).catch(() => undefined);
      await giveUpForgotten(signal).catch(() => undefined);
      if (performance.now() - looked < LOOK_EVERY_MS) continue;
      looked = performance.now();
      wakeThose(() => true);
    }
  };

  return {
    hold: (key, work, signal) => turns.hold(key, () => underLease(key, work, signal), signal),
    async run(signal) {
      const unlisten = news.listen((item) => {
        if (item.kind === "released") for (const mailbox of item.mailboxes) waiting.get(mailbox)?.wake();
      });
      const unwatch = sessions.onChange(() => {
        const live = new Set(sessions.known().nodes.map(({ session }) => session));
        wakeThose((owner) => !live.has(owner));
      });
      await rounds(signal);
      unlisten();
      unwatch();
    },
  };
}

/** The new fence, or the live session that owns the mailbox. */
async function taken({ redis, keys, sessions }: Deps, key: string, session: string): Promise<number | string> {
  const ask = async (over: string): Promise<number | string> => {
    const [mine, said] = listOf(await redis.run(TAKE, keys.mailbox(key), [session, over]));
    return mine === 1 ? numberOf(said) : textOf(said);
  };
  const found = await ask("");
  return typeof found === "number" || (await isLive(sessions, found)) ? found : ask(found);
}

/** False is certain: a session begins before it owns anything and never comes back, and this asks after its name was seen. */
async function isLive(sessions: Sessions, session: string): Promise<boolean> {
  const among = (nodes: readonly NodeInfo[]) => nodes.some((node) => node.session === session);
  return among(sessions.known().nodes) || among(await sessions.nodes());
}

async function tellReleased(news: News, released: Set<string>): Promise<void> {
  while (released.size > 0) {
    const mailboxes = [...released].slice(0, TOLD_TOGETHER);
    await news.tell({ kind: "released", mailboxes });
    for (const mailbox of mailboxes) released.delete(mailbox);
  }
}

function unlessAborted(wait: Promise<void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) return stop();
    signal.addEventListener("abort", stop, { once: true });
    return wait.finally(() => signal.removeEventListener("abort", stop)).then(resolve, reject);
  });
}
