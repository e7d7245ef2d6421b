/**
 * Canaries in Redis: one for each pair of key and form that something here may be sealed with, by its tag. Whoever opens
 * all of them can read everything. While a change looks for what is left under a tag, the canary of that tag is in
 * `leaving`.
 */
import type { Canary, MailboxSealing } from "../../mailbox-sealing.ts";
import type { RedisConnection } from "../connection/client.ts";
import { recordOf } from "../connection/reply.ts";
import type { RedisKeys } from "../keys.ts";

const CANARIES = "canaries";
const LEAVING = "canaries:leaving";

export type Canaries = {
  /**
   * Learns what is sealed here with which key and in which form. Throws `config`, naming the key, when a key is missing or
   * wrong. Returns the tags of all canaries.
   */
  learn(): Promise<string[]>;
  /**
   * Says that something is sealed so; by default as this node seals now. It must be called before a write, so that no node
   * starts that cannot open it, and after it, because a change may have looked for such writes in between.
   */
  announce(canary?: Canary): Promise<void>;
  /** Moves the canaries of these tags to `leaving`. A node that still seals so announces its canary again. */
  beginLeaving(tags: readonly string[]): Promise<void>;
  /** Deletes the canaries of these tags from `leaving`, because nothing is sealed so. */
  endLeaving(tags: readonly string[]): Promise<void>;
};

export function redisCanaries(redis: RedisConnection, { globalPrefix }: RedisKeys, sealing: MailboxSealing): Canaries {
  const read = async (hash: string) => recordOf(await redis.send("hgetall", [globalPrefix + hash]));
  return {
    async learn() {
      const found = (await Promise.all([read(CANARIES), read(LEAVING)])).flat();
      sealing.learn(found.map(([tag, sealed]) => ({ tag, sealed })));
      return [...new Set(found.map(([tag]) => tag))];
    },
    async announce({ tag, sealed } = sealing.makeCanary()) {
      await redis.send("hsetnx", [globalPrefix + CANARIES, tag, sealed]);
    },
    async beginLeaving(tags) {
      const canaries = (await read(CANARIES)).filter(([tag]) => tags.includes(tag));
      if (canaries.length === 0) return;
      await redis.send("hset", [globalPrefix + LEAVING, ...canaries.flat()]);
      await redis.send("hdel", [globalPrefix + CANARIES, ...canaries.map(([tag]) => tag)]);
    },
    async endLeaving(tags) {
      if (tags.length > 0) await redis.send("hdel", [globalPrefix + LEAVING, ...tags]);
    },
  };
}
