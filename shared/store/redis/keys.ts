/** The names of all keys. What belongs to one mailbox shares a hash tag, so one script (and one node of a cluster) has it whole. */
import { Problem } from "../../contract/problem.ts";

export type RedisKeys = {
  readonly prefix: string;
  /** What every key of this mailbox begins with. */
  mailbox(id: string): string;
  /** What every key begins with that is about all mailboxes: indexes, nodes, counts. `*` is no character of an id. */
  readonly all: string;
};

/** Throws `config` for a prefix with braces: they would decide the hash tag in place of the mailbox's id. */
export function redisKeys(prefix: string): RedisKeys {
  if (/[{}]/.test(prefix)) throw new Problem("config", "REDIS_PREFIX must not contain braces", { retry: "never" });
  return { prefix, mailbox: (id) => `${prefix}:{${id}}:`, all: `${prefix}:{*}:` };
}
