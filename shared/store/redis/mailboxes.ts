/** Registered mailboxes in Redis, each in its own hash with encrypted secrets. The index in registry.ts finds them. */
import { type Mailbox, type MailboxState } from "../../contract/mailbox.ts";
import { asProblem, Problem, withCurrentCode } from "../../contract/problem.ts";
import type { RedisConnection } from "./connection/client.ts";
import { redisScript } from "./connection/script.ts";
import { LUA_FORGET_DELIVERIES } from "./deliveries/records.ts";
import type { RedisKeys } from "./keys.ts";
import { listMailboxes, listStates } from "./mailbox-lists.ts";
import { LUA_FORGET_OUTBOX } from "./outbox-scripts.ts";
import { LUA_FINGERPRINTS, type FingerprintWindow } from "./fingerprints.ts";
import type { RedisRegistry } from "./registry.ts";
import { listOf, numberOf, textOf, textOrNull, textsOf } from "./connection/reply.ts";
import { enabledFollower, enabledLister } from "./enabled-mailboxes.ts";
import { initialState, pausedState, type Mailboxes, type MailboxWithState } from "../store.ts";
import type { Canary, MailboxSealing } from "../mailbox-sealing.ts";
import { cachingMailboxReader, findUnreadableSecret } from "../sealed-mailboxes.ts";
import { LUA_CLOCK, LUA_LEDGER } from "./lua.ts";

/** A stamp is Redis' clock in microseconds, and always larger than the last stamp of the same mailbox. */
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
const MAILBOX_SCRIPT_PARTS = [
  LUA_CLOCK,
  LUA_LEDGER,
  LUA_FINGERPRINTS,
  LUA_FORGET_DELIVERIES,
  LUA_FORGET_OUTBOX,
  LUA_MAILBOX,
];

/**
 * Returns the stored revision if it is not the expected one. Otherwise it returns the new stamp, with the deliveries of
 * a removed mailbox of the same id.
 */
const PUT = redisScript(
  ...MAILBOX_SCRIPT_PARTS,
  `
  local revision = tonumber(redis.call('HGET', mailbox, 'revision')) or 0
  if revision ~= tonumber(ARGV[3]) then return { revision, '' } end
  local stamp = nextStamp()
  -- A worker may have written data for a removed mailbox with this id. It must not belong to the new mailbox.
  local late = revision == 0 and forgetAll() or {}
  redis.call('HSET', mailbox, 'doc', ARGV[4], 'revision', revision + 1, 'stamp', stamp, 'key', ARGV[5])
  return { -1, stamp, late }`,
);

/** Returns 0 if the mailbox was changed since it was read. */
const AMEND = redisScript(`
  local mailbox = KEYS[1] .. 'mailbox'
  if redis.call('HGET', mailbox, 'doc') ~= ARGV[1] then return 0 end
  redis.call('HSET', mailbox, 'doc', ARGV[2], 'key', ARGV[3])
  return 1`);

const REMOVE = redisScript(
  ...MAILBOX_SCRIPT_PARTS,
  `
  local stamp = nextStamp()
  return { redis.call('DEL', mailbox), stamp, forgetAll() }`,
);

/** Deletes what a worker wrote after the mailbox was removed. */
const SWEEP = redisScript(
  ...MAILBOX_SCRIPT_PARTS,
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

type RedisMailboxesDeps = {
  redis: RedisConnection;
  keys: RedisKeys;
  sealing: MailboxSealing;
  window: FingerprintWindow;
  registry: RedisRegistry;
  /**
   * Says with what a mailbox is sealed, see sealing/canaries.ts. Called before a write, and after it once the mailbox is
   * in the index.
   */
  announceKey: (canary: Canary) => Promise<void>;
  /** Learns what the store is sealed with now. */
  learnKeys: () => Promise<void>;
  /** Removes the deliveries of a mailbox from the index. */
  forgetDeliveries: (ids: string[]) => Promise<void>;
};

/** How often an amendment is repeated because the mailbox changed in between. */
const MAX_AMEND_TRIES = 20;

export function redisMailboxes(deps: RedisMailboxesDeps): Mailboxes {
  const { redis, keys, sealing, registry } = deps;
  const open = cachingMailboxReader(sealing.open);
  const followEnabled = () => enabledFollower({ registry, repairIndex: (ids) => repairIndex(deps, ids) });
  return {
    put: (mailbox, state) => put(deps, mailbox, state),
    async amend({ id, revision }, change) {
      for (let tries = 0; tries < MAX_AMEND_TRIES; tries++) {
        const doc = await readDoc(deps, id);
        const stored = doc === null ? undefined : open(doc);
        if (doc === null || !stored || (revision !== undefined && stored.revision !== revision)) return false;
        const { doc: changed, canary } = sealing.seal(change(stored));
        await deps.announceKey(canary);
        const written = await redis.run(AMEND, keys.mailboxPrefix(id), [doc, changed, canary.tag]);
        await deps.announceKey(canary);
        if (written === 1) return true;
      }
      throw new Problem("conflict", `The mailbox ${id} was changed by others again and again`);
    },
    async get(id) {
      const [doc, [state]] = await Promise.all([readDoc(deps, id), registry.states([id])]);
      if (doc === null) return undefined;
      // A node that did not yet notice that all others left the form of 0.1 may have written it.
      if (findUnreadableSecret(open(doc))) await learnAgain(deps);
      return withState(open(doc), state ?? null);
    },
    list: (query) =>
      listMailboxes(
        { registry, readDoc: (id) => readDoc(deps, id), toMailbox: (doc, state) => withState(open(doc), state) },
        query,
      ),
    listStates: (query) =>
      listStates(registry, query, (state) =>
        state === null ? initialState({ paused: false }) : parseState(JSON.parse(state)),
      ),
    async remove(id) {
      await registry.notePendingChange(id);
      const [removed, stamp, deliveries] = listOf(
        await redis.run(REMOVE, keys.mailboxPrefix(id), deps.window.scriptArguments()),
      );
      await deps.forgetDeliveries(textsOf(deliveries));
      await registry.index({ id, stamp: textOf(stamp), ...REMOVED_REGISTRATION });
      return numberOf(removed) === 1;
    },
    async saveStates(states) {
      await registry.saveStates(
        states.map(({ id, revision, state }) => ({ id, revision, status: state.status, state: JSON.stringify(state) })),
      );
    },
    listEnabled: enabledLister(followEnabled()),
    followEnabled,
  };
}

/** A missing key is no failure here: the mailbox itself shows which one it is. */
async function learnAgain({ learnKeys }: RedisMailboxesDeps): Promise<void> {
  await learnKeys().catch((error: unknown) => {
    if (asProblem(error).code !== "config") throw error;
  });
}

const REMOVED_REGISTRATION = { revision: 0, paused: false, address: "", status: "", state: "", afresh: false };

async function put(deps: RedisMailboxesDeps, mailbox: Mailbox, state: MailboxState | undefined): Promise<Mailbox> {
  const { redis, keys, sealing, registry } = deps;
  const { id, revision } = mailbox;
  const saved = { ...mailbox, revision: revision + 1 };
  await registry.notePendingChange(id);
  const { doc, canary } = sealing.seal(saved);
  const args = [...deps.window.scriptArguments(), revision, doc, canary.tag];
  await deps.announceKey(canary);
  const [conflicting, stamp, lateDeliveries] = listOf(await redis.run(PUT, keys.mailboxPrefix(id), args));
  const stored = numberOf(conflicting);
  if (stored >= 0) {
    const found = stored === 0 ? "was removed" : `has revision ${stored}`;
    throw new Problem("conflict", `The mailbox ${id} ${found}, not ${revision}`, { retry: "never" });
  }
  await deps.forgetDeliveries(textsOf(lateDeliveries));
  await registry.index({ stamp: textOf(stamp), ...toRegistration(saved, state) });
  await deps.announceKey(canary);
  return saved;
}

function toRegistration(mailbox: Mailbox, replacement?: MailboxState) {
  const { id, revision, paused } = mailbox;
  const state = replacement ?? initialState(mailbox);
  const address = mailbox.address.toLowerCase();
  return {
    id,
    revision,
    paused,
    address,
    status: state.status,
    state: JSON.stringify(state),
    afresh: replacement !== undefined,
  };
}

async function readDoc(
  { redis, keys }: Pick<RedisMailboxesDeps, "redis" | "keys">,
  id: string,
): Promise<string | null> {
  return textOrNull(await redis.send("hget", [`${keys.mailboxPrefix(id)}mailbox`, "doc"]));
}

/**
 * A new mailbox may have no state yet, because its first state is written a moment after the mailbox. Then this returns
 * the initial state.
 */
function withState(mailbox: Mailbox, state: string | null): MailboxWithState {
  return { mailbox, state: state === null ? initialState(mailbox) : parseState(JSON.parse(state)) };
}

function parseState(value: unknown): MailboxState {
  if (typeof value === "object" && value !== null && "status" in value && "since" in value) {
    const state = value as MailboxState;
    return { ...state, problem: state.problem && withCurrentCode(state.problem) };
  }
  throw new Problem("store", "Redis holds a state that cannot be read", { retry: "never" });
}

/** Corrects index entries from the mailboxes themselves, for changes that a crash interrupted. */
async function repairIndex(deps: RedisMailboxesDeps, ids: string[]): Promise<void> {
  for (const id of ids) {
    const [doc, stamp] = listOf(await deps.redis.run(READ, deps.keys.mailboxPrefix(id), []));
    if (doc === null) {
      await deps.registry.index({ id, stamp: textOf(stamp), ...REMOVED_REGISTRATION });
      continue;
    }
    const mailbox = deps.sealing.open(textOf(doc));
    // Nobody reports the state of a paused mailbox, so the pause itself must be repaired too.
    const state = mailbox.paused ? await repairedPause(deps, mailbox) : undefined;
    await deps.registry.index({ ...toRegistration(mailbox, state), stamp: textOf(stamp) });
  }
}

async function repairedPause({ registry }: RedisMailboxesDeps, mailbox: Mailbox): Promise<MailboxState> {
  const [stored] = await registry.states([mailbox.id]);
  const { state } = withState(mailbox, stored ?? null);
  return state.status === "paused" ? state : pausedState(state, mailbox.updatedAt);
}

/** Deletes what workers wrote after their mailbox was removed, and later the record of the removal. */
export async function purgeRemovedMailboxes(deps: RedisMailboxesDeps): Promise<void> {
  for (let rank = 0; ;) {
    const ids = await deps.registry.listRemoved(rank);
    for (const id of ids) {
      const lateDeliveries = textsOf(
        await deps.redis.run(SWEEP, deps.keys.mailboxPrefix(id), deps.window.scriptArguments()),
      );
      await deps.forgetDeliveries(lateDeliveries);
      if (!(await deps.registry.pruneRemoved(id))) rank += 1;
    }
    if (ids.length === 0) return;
  }
}
