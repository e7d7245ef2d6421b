/** What nodes tell each other at once, so that nobody has to ask all the time. News may get lost: they only make things quicker. */
import * as v from "valibot";
import type { RedisConnection } from "../store/redis-client.ts";
import type { RedisKeys } from "../store/redis/keys.ts";

/** Mailboxes that were given up; a node came or went; mailboxes were registered, changed or removed. */
const NewsItem = v.variant("kind", [
  v.object({ kind: v.literal("released"), mailboxes: v.array(v.string()) }),
  v.object({ kind: v.literal("nodes") }),
  v.object({ kind: v.literal("mailboxes") }),
]);
export type NewsItem = v.InferOutput<typeof NewsItem>;

export interface News {
  tell(news: NewsItem): Promise<void>;
  /** Calls `heard` for what any node tells, this one included. Returns what ends that. */
  listen(heard: (news: NewsItem) => void): () => void;
}

/** News over Redis' publish and subscribe. Resolves once it hears. */
export async function redisNews(redis: RedisConnection, keys: RedisKeys): Promise<News> {
  const channel = `${keys.all}news`;
  const listeners = new Set<(news: NewsItem) => void>();
  await redis.subscribe(channel, (message) => {
    // Newer versions may tell what this one does not know.
    const news = v.safeParse(NewsItem, parsed(message));
    if (news.success) for (const heard of listeners) heard(news.output);
  });
  return {
    async tell(news) {
      await redis.send("publish", [channel, JSON.stringify(news)]);
    },
    listen(heard) {
      listeners.add(heard);
      return () => listeners.delete(heard);
    },
  };
}

function parsed(message: string): unknown {
  try {
    return JSON.parse(message);
  } catch {
    return undefined;
  }
}
