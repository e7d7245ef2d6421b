/** Registered mailboxes in Redis: each in a hash of its own with its secrets sealed, found through the index of redis-registry.ts. */
import { type Mailbox, type MailboxState } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";
import { type RedisConnection, redisScript } from "../redis-client.ts";
import { LUA_FORGET_DELIVERIES } from "../redis-delivery-records.ts";
import type { RedisKeys } from "./keys.ts";
import { LUA_CLOCK, LUA_LEDGER } from "./ledger.ts";
import { listedMailboxes } from "./mailbox-lists.ts";
import { LUA_FORGET_OUTBOX } from "./outbox.ts";
import { LUA_PRINTS, type PrintWindow } from "./fingerprints.ts";
import type { RedisRegistry } from "./registry.ts";
import { listOf, numberOf, textOf, textOrNull, textsOf } from "../redis-reply.ts";
import { wantedReader } from "./enabled-mailboxes.ts";
import { newState, type Mailboxes, type MailboxWithState } from "../store.ts";
import { mailboxReader, openMailbox, sealMailbox, type Vault } from "../vault.ts";

/** Stamps are Redis' clock in microseconds, and always larger than the last of the same mailbox. */
const LUA_MAILBOX = `
  local mailbox = base .. 'mailbox'
  local function nextStamp()
    local last = tonumber(redis.call('HGET', mailbox, 'stamp')) or 0
    return whole(math.max(last + 1, clock[1] * 1000000 + clock[2]))
  end
  local function forgetAll()
    local ids = forgetDeliveries()
    forgetPrints()
    forgetOutbox()
    redis.call('UNLINK', base .. 'lease', base .. 'cursors', base .. 'open', base .. 'ahead', base .. 'facts')
    return ids
  end
`;
const WHOLE = [LUA_CLOCK, LUA_LEDGER, LUA_PRINTS, LUA_FORGET_DELIVERIES, LUA_FORGET_OUTBOX, LUA_MAILBOX];

/** Answers the stored revision that is in the way, or the new stamp with the deliveries of a removed namesake. */
const PUT = redisScript(
  ...WHOLE,
  `
  local revision = tonumber(redis.call('HGET', mailbox, 'revision')) or 0
  if revision ~= tonumber(ARGV[3]) then return { revision, '' } end
  local stamp = nextStamp()
  -- What a worker wrote after a namesake was removed must not become this mailbox's past.
  local late = revision == 0 and forgetAll() or {}
  redis.call('HSET', mailbox, 'doc', ARGV[4], 'revision', revision + 1, 'stamp', stamp, 'key', ARGV[5])
  return { -1, stamp, late }`,
);

const AMEND = redisScript(`
  local mailbox = KEYS[1] .. 'mailbox'
  if redis.call('HGET', mailbox, 'revision') ~= ARGV[1] then return 0 end
  redis.call('HSET', mailbox, 'doc', ARGV[2], 'key', ARGV[3])
  return 1`);

const REMOVE = redisScript(
  ...WHOLE,
  `
  local stamp = nextStamp()
  return { redis.call('DEL', mailbox), stamp, forgetAll() }`,
);

/** What a worker wrote after the mailbox was removed. */
const SWEEP = redisScript(
  ...WHOLE,
  `
  if redis.call('EXISTS', mailbox) == 1 then return {} end
  return forgetAll()`,
);

const READ = redisScript(
  LUA_CLOCK,
  `
  local found = redis.call('HMGET', base .. 'mailbox', 'doc', 'stamp')
  return { found[1], found[2] or whole(clock[1] * 1000000 + clock[2]) }`,
);

type Deps = {
  redis: RedisConnection;
  keys: RedisKeys;
  vault: Vault;
  window: PrintWindow;
  registry: RedisRegistry;
  /** Takes the deliveries of a mailbox out of the index. */
  forgetDeliveries: (ids: string[]) => Promise<void>;
};

export function redisMailboxes(deps: Deps): Mailboxes {
  const { redis, keys, vault, registry } = deps;
  const open = mailboxReader(vault);
  const wanted = wantedReader({ registry, mend: (ids) => mend(deps, ids) });
  return {
    put: (mailbox, state) => put(deps, mailbox, state),
    async amend(mailbox) {
      const doc = JSON.stringify(sealMailbox(mailbox, vault));
      await redis.run(AMEND, keys.mailbox(mailbox.id), [mailbox.revision, doc, vault.sealsWith]);
    },
    async get(id) {
      const [doc, [state]] = await Promise.all([readDoc(deps, id), registry.states([id])]);
      return doc === null ? undefined : withState(open(doc), state ?? null);
    },
    list: (query) =>
      listedMailboxes(
        { registry, read: (id) => readDoc(deps, id), opened: (doc, state) => withState(open(doc), state) },
        query,
      ),
    async remove(id) {
      await registry.touch(id);
      const [removed, stamp, deliveries] = listOf(await redis.run(REMOVE, keys.mailbox(id), deps.window.values()));
      await deps.forgetDeliveries(textsOf(deliveries));
      await registry.index({ id, stamp: textOf(stamp), ...NOBODY });
      return numberOf(removed) === 1;
    },
    async observe(states) {
      await registry.observe(
        states.map(({ id, revision, state }) => ({ id, revision, status: state.status, state: JSON.stringify(state) })),
      );
    },
    wanted,
  };
}

const NOBODY = { revision: 0, paused: false, address: "", status: "", state: "", afresh: false };

async function put(deps: Deps, mailbox: Mailbox, state: MailboxState | undefined): Promise<Mailbox> {
  const { redis, keys, vault, registry } = deps;
  const { id, revision } = mailbox;
  const saved = { ...mailbox, revision: revision + 1 };
  await registry.touch(id);
  const doc = JSON.stringify(sealMailbox(saved, vault));
  const args = [...deps.window.values(), revision, doc, vault.sealsWith];
  const [inTheWay, stamp, late] = listOf(await redis.run(PUT, keys.mailbox(id), args));
  const stored = numberOf(inTheWay);
  if (stored >= 0) {
    const found = stored === 0 ? "is not there any more" : `has revision ${stored}`;
    throw new Problem("conflict", `The mailbox ${id} ${found}, not ${revision}`, { retry: "never" });
  }
  await deps.forgetDeliveries(textsOf(late));
  await registry.index({ stamp: textOf(stamp), ...registrationOf(saved, state) });
  return saved;
}

function registrationOf(mailbox: Mailbox, given?: MailboxState) {
  const { id, revision, paused } = mailbox;
  const state = given ?? newState(mailbox);
  const address = mailbox.address.toLowerCase();
  return {
    id,
    revision,
    paused,
    address,
    status: state.status,
    state: JSON.stringify(state),
    afresh: given !== undefined,
  };
}

async function readDoc({ redis, keys }: Pick<Deps, "redis" | "keys">, id: string): Promise<string | null> {
  return textOrNull(await redis.send("hget", [`${keys.mailbox(id)}mailbox`, "doc"]));
}

/** Without a state (its first one is written a moment after the mailbox) it is a new one. */
function withState(mailbox: Mailbox, state: string | null): MailboxWithState {
  return { mailbox, state: state === null ? newState(mailbox) : stateOf(JSON.parse(state)) };
}

function stateOf(value: unknown): MailboxState {
  if (typeof value === "object" && value !== null && "status" in value && "since" in value)
    return value as MailboxState;
  throw new Problem("store", "Redis holds a state that cannot be read", { retry: "never" });
}

/** Brings the index up to what the mailboxes themselves are: for changes that a crash cut short. */
async function mend(deps: Deps, ids: string[]): Promise<void> {
  for (const id of ids) {
    const [doc, stamp] = listOf(await deps.redis.run(READ, deps.keys.mailbox(id), []));
    if (doc === null) await deps.registry.index({ id, stamp: textOf(stamp), ...NOBODY });
    else
      await deps.registry.index({
        ...registrationOf(openMailbox(JSON.parse(textOf(doc)), deps.vault)),
        stamp: textOf(stamp),
      });
  }
}

/** Drops what workers wrote after their mailbox was removed, and in the end the memory of the removal. */
export async function sweepRemoved(deps: Deps): Promise<void> {
  for (let rank = 0; ;) {
    const ids = await deps.registry.removed(rank);
    for (const id of ids) {
      const late = textsOf(await deps.redis.run(SWEEP, deps.keys.mailbox(id), deps.window.values()));
      await deps.forgetDeliveries(late);
      if (!(await deps.registry.forgetRemoved(id))) rank += 1;
    }
    if (ids.length === 0) return;
  }
}
