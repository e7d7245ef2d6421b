/** Scripts for Redis. They are apart from the connection, because a node without Redis never loads its library. */
import { createHash } from "node:crypto";

/**
 * A Lua script, and the hash under which Redis knows it. All keys of one script begin with KEYS[1], which holds their
 * hash tag.
 */
export type RedisScript = { source: string; sha: string };

/** Prepares a script from its parts. */
export function redisScript(...parts: string[]): RedisScript {
  const source = parts.join("\n");
  return { source, sha: createHash("sha1").update(source).digest("hex") };
}
