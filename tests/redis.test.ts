/** The store in Redis: held to the promises of every store, and to those that only a server can break. */
import { randomUUID } from "node:crypto";
import { after, before } from "node:test";
import { newKey } from "../shared/store/keys.ts";
import { redisStore } from "../shared/store/redis.ts";
import { vault } from "../shared/store/vault.ts";
import { storePromises, type StoreSettings } from "./promises/stores.ts";
import { type Redis, startRedis } from "./servers/redis.ts";

const k1 = { id: "k1", key: newKey() };

let redis: Redis;
before(async () => {
  redis = await startRedis({ settings: { appendfsync: "everysec" } });
});
after(() => redis.remove());

function open(url: string, settings: Partial<StoreSettings> = {}, prefix = randomUUID()) {
  return redisStore({ url, prefix, vault: vault([k1]), windowDays: 7, spoolBytes: 1e9, ...settings });
}

storePromises("redis", (settings) => open(redis.url, settings));
