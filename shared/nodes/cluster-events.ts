/**
 * Events that nodes publish to each other, so that nobody has to poll. An event may get lost: it only makes things
 * faster.
 */
import * as v from "valibot";
import type { RedisConnection } from "../store/redis/connection/client.ts";
import type { RedisKeys } from "../store/redis/keys.ts";
import { HINTS } from "../mail/graph/notifications/hints.ts";

/**
 * released: mailboxes whose lease ended. nodes: a node started or stopped. mailboxes: a mailbox was registered, changed
 * or removed. hints: Microsoft Graph says that mailboxes have something new.
 */
const ClusterEvent = v.variant("kind", [
  v.object({ kind: v.literal("released"), mailboxes: v.array(v.string()) }),
  v.object({ kind: v.literal("nodes") }),
  v.object({ kind: v.literal("mailboxes") }),
  v.object({ kind: v.literal("hints"), hints: v.array(v.tuple([v.string(), v.picklist(HINTS)])) }),
]);
export type ClusterEvent = v.InferOutput<typeof ClusterEvent>;

export interface ClusterEvents {
  publish(news: ClusterEvent): Promise<void>;
  /** Calls `heard` for each event of any node, this one included. Returns a function that ends this. */
  subscribe(heard: (news: ClusterEvent) => void): () => void;
}

/** Events over Redis' publish and subscribe. Resolves once it is subscribed. */
export async function redisClusterEvents(redis: RedisConnection, keys: RedisKeys): Promise<ClusterEvents> {
  const channel = `${keys.globalPrefix}news`;
  const listeners = new Set<(event: ClusterEvent) => void>();
  await redis.subscribe(channel, (message) => {
    // A newer version may publish events that this one does not know.
    const event = v.safeParse(ClusterEvent, parseJson(message));
    if (event.success) for (const listener of listeners) listener(event.output);
  });
  return {
    async publish(event) {
      await redis.send("publish", [channel, JSON.stringify(event)]);
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

function parseJson(message: string): unknown {
  try {
    return JSON.parse(message);
  } catch {
    return undefined;
  }
}
