/** Registered applications in Redis: a hash of documents with sealed secrets, and a hash of their versions. */
import { versionOf } from "../../../contract/application.ts";
import type { RedisConnection } from "../connection/client.ts";
import { redisScript } from "../connection/script.ts";
import { numberOf, recordOf, textOrNull } from "../connection/reply.ts";
import type { RedisKeys } from "../keys.ts";
import type { RedisRegistry } from "../registry.ts";
import {
  type Applications,
  checkRoomForApplication,
  openApplication,
  resealApplications,
  sealApplication,
  type StoredApplication,
  toApplicationConflict,
} from "../../sealed-applications.ts";
import type { Vault } from "../../vault.ts";

/** Arguments: id, the revision that is replaced (0 for none), the next version, document. A version begins with its revision. */
const PUT = redisScript(`
  local versions = KEYS[1] .. 'applications:versions'
  local stored = redis.call('HGET', versions, ARGV[1]) or '0'
  if string.match(stored, '^%d+') ~= ARGV[2] then return 0 end
  redis.call('HSET', versions, ARGV[1], ARGV[3])
  redis.call('HSET', KEYS[1] .. 'applications', ARGV[1], ARGV[4])
  return 1`);

const REMOVE = redisScript(`
  redis.call('HDEL', KEYS[1] .. 'applications:versions', ARGV[1])
  return redis.call('HDEL', KEYS[1] .. 'applications', ARGV[1])`);

/** Replaces nothing when somebody changed or removed the application meanwhile. */
const RESEAL = redisScript(`
  local applications = KEYS[1] .. 'applications'
  if redis.call('HGET', applications, ARGV[1]) ~= ARGV[2] then return 0 end
  redis.call('HSET', applications, ARGV[1], ARGV[3])
  return 1`);

/** Mailboxes that are looked at together. */
const PAGE_SIZE = 500;

type RedisApplicationsDeps = {
  redis: RedisConnection;
  keys: RedisKeys;
  registry: RedisRegistry;
  vault: Vault;
  /** See ../sealing/canaries.ts. */
  announceKey: () => Promise<void>;
};

export function redisApplications(deps: RedisApplicationsDeps): Applications {
  const { redis, keys, vault, announceKey } = deps;
  const { globalPrefix } = keys;
  const name = `${globalPrefix}applications`;
  return {
    async put(application) {
      const { id, revision } = application;
      if (revision === 0) checkRoomForApplication(numberOf(await redis.send("hlen", [name])));
      const next = { ...application, revision: revision + 1 };
      await announceKey();
      const doc = sealApplication(next, vault);
      const args = [id, String(revision), versionOf(next), doc];
      const done = numberOf(await redis.run(PUT, globalPrefix, args));
      await announceKey();
      if (done === 0) throw toApplicationConflict(id);
      return next;
    },
    async get(id) {
      const doc = textOrNull(await redis.send("hget", [name, id]));
      return doc === null ? undefined : openApplication(doc, vault);
    },
    list: async () => (await listStored(deps)).map(({ doc }) => openApplication(doc, vault)),
    listVersions: async () => new Map(recordOf(await redis.send("hgetall", [`${name}:versions`]))),
    remove: async (id) => numberOf(await redis.run(REMOVE, globalPrefix, [id])) === 1,
    countMailboxes: (id) => countMailboxes(deps, id),
  };
}

async function listStored({
  redis,
  keys,
}: Pick<RedisApplicationsDeps, "redis" | "keys">): Promise<StoredApplication[]> {
  const found = recordOf(await redis.send("hgetall", [`${keys.globalPrefix}applications`]));
  return found.map(([id, doc]) => ({ id, doc })).toSorted((a, b) => (a.id < b.id ? -1 : 1));
}

/** Reads every mailbox, because nobody asks often and an index could be wrong after a crash. */
async function countMailboxes({ redis, keys, registry }: RedisApplicationsDeps, id: string): Promise<number> {
  let count = 0;
  for (let from = "-"; ;) {
    const ids = await registry.listMembers("ids", { from, to: "+", limit: PAGE_SIZE });
    const docs = await Promise.all(
      ids.map(async (one) => textOrNull(await redis.send("hget", [`${keys.mailboxPrefix(one)}mailbox`, "doc"]))),
    );
    count += docs.filter((doc) => doc !== null && namesApplication(doc, id)).length;
    const last = ids.at(-1);
    if (ids.length < PAGE_SIZE || last === undefined) return count;
    from = `(${last}`;
  }
}

type LoginPart = { auth?: { application?: unknown; oauth2?: { application?: unknown } } };

function namesApplication(doc: string, id: string): boolean {
  const { receive, send } = JSON.parse(doc) as { receive?: LoginPart; send?: LoginPart };
  const names = [receive?.auth?.application, receive?.auth?.oauth2?.application, send?.auth?.oauth2?.application];
  return names.includes(id);
}

/** Seals with the first key what another one sealed. */
export async function resealStoredApplications(deps: Pick<RedisApplicationsDeps, "redis" | "keys" | "vault">) {
  const { redis, keys, vault } = deps;
  return resealApplications(
    await listStored(deps),
    vault,
    async (old, doc) => numberOf(await redis.run(RESEAL, keys.globalPrefix, [old.id, old.doc, doc])) === 1,
  );
}
