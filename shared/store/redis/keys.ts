/**
 * The names of all keys. All keys of one mailbox share a hash tag, so they are on one node of a cluster and one script
 * can use them.
 */
import { Problem } from "../../contract/problem.ts";

export type RedisKeys = {
  readonly prefix: string;
  /** The prefix of all keys of this mailbox. */
  mailboxPrefix(id: string): string;
  /**
   * The prefix of all keys that concern all mailboxes: indexes, nodes, counts. The hash tag `*` cannot be the id of a
   * mailbox.
   */
  readonly globalPrefix: string;
  /**
   * The prefix of all keys of the queue. It has a hash tag of its own, so a cluster can keep the queue on another node
   * than the indexes.
   */
  readonly queuePrefix: string;
};

/** Throws `config` for a prefix with braces, because Redis would take the braces for the hash tag. */
export function redisKeys(prefix: string): RedisKeys {
  if (/[{}]/.test(prefix)) throw new Problem("config", "REDIS_PREFIX must not contain braces", { retry: "never" });
  return {
    prefix,
    mailboxPrefix: (id) => `${prefix}:{${id}}:`,
    globalPrefix: `${prefix}:{*}:`,
    queuePrefix: `${prefix}:{*tasks}:`,
  };
}
