/** Links for consent in Redis: a key for each, which Redis forgets by itself. */
import { clock } from "../../../time.ts";
import { type Consents, forgetAt, openConsent, sealConsent, toConsentConflict } from "../../sealed-consents.ts";
import type { Vault } from "../../vault.ts";
import type { RedisConnection } from "../connection/client.ts";
import { redisScript } from "../connection/script.ts";
import { numberOf, textOrNull } from "../connection/reply.ts";
import type { RedisKeys } from "../keys.ts";

/** Arguments: id, the revision that is replaced (0 for none), the next one, document, milliseconds to keep it. */
const PUT = redisScript(`
  local link = KEYS[1] .. 'consent:' .. ARGV[1]
  if (redis.call('HGET', link, 'revision') or '0') ~= ARGV[2] then return 0 end
  redis.call('HSET', link, 'revision', ARGV[3], 'doc', ARGV[4])
  redis.call('PEXPIRE', link, ARGV[5])
  return 1`);

type RedisConsentsDeps = {
  redis: RedisConnection;
  keys: RedisKeys;
  vault: Vault;
  /** See ../sealing/canaries.ts. */
  announceKey: () => Promise<void>;
};

export function redisConsents({ redis, keys, vault, announceKey }: RedisConsentsDeps): Consents {
  const { globalPrefix } = keys;
  return {
    async put(consent) {
      const next = { ...consent, revision: consent.revision + 1 };
      await announceKey();
      const keptMs = Math.max(1, forgetAt(consent) - clock.now());
      const args = [consent.id, String(consent.revision), String(next.revision), sealConsent(next, vault), keptMs];
      if (numberOf(await redis.run(PUT, globalPrefix, args)) === 0) throw toConsentConflict();
      return next;
    },
    async get(id) {
      const sealed = textOrNull(await redis.send("hget", [`${globalPrefix}consent:${id}`, "doc"]));
      return sealed === null ? undefined : openConsent({ id, sealed }, vault);
    },
  };
}
