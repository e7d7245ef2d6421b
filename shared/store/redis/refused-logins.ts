/**
 * Refused logins in Redis: a hash for each user name, with a field for each password and server. The field begins with a
 * keyed digest of the user name and the password that only the nodes can compute. While ENCRYPTION_KEYS changes, they try
 * the digest by each key.
 */
import { createHash } from "node:crypto";
import * as v from "valibot";
import { type Account, type PasswordLogin, RefusedLogin, type RefusedLogins } from "../../contract/login.ts";
import { clock } from "../../time.ts";
import type { Vault } from "../vault.ts";
import type { RedisConnection } from "./connection/client.ts";
import { redisScript } from "./connection/script.ts";
import { listOf, textOrNull } from "./connection/reply.ts";
import type { RedisKeys } from "./keys.ts";

const KEPT_MS = 2 * 24 * 3_600_000;

/**
 * ARGV: user, field, value, for how many ms at least the user's logins are kept, the fields of the same login by the
 * other keys.
 */
const SAVE = redisScript(`
  local logins = KEYS[1] .. 'refused:' .. ARGV[1]
  for n = 5, #ARGV do redis.call('HDEL', logins, ARGV[n]) end
  redis.call('HSET', logins, ARGV[2], ARGV[3])
  return redis.call('PEXPIRE', logins, math.max(tonumber(ARGV[4]), redis.call('PTTL', logins)))`);

/** ARGV: user, least ms between a refusal and the next attempt, what the fields begin with. */
const ALLOW_RETRY = redisScript(`
  local logins = KEYS[1] .. 'refused:' .. ARGV[1]
  local found = redis.call('HGETALL', logins)
  for n = 1, #found, 2 do
    for m = 3, #ARGV do
      if string.sub(found[n], 1, #ARGV[m]) == ARGV[m] then
        local refused = cjson.decode(found[n + 1])
        refused.times = 0
        refused['until'] = math.min(refused['until'], refused.at + ARGV[2])
        redis.call('HSET', logins, found[n], cjson.encode(refused))
      end
    end
  end
  return #found`);

export function redisRefusedLogins(
  redis: RedisConnection,
  { globalPrefix }: RedisKeys,
  { marks }: Pick<Vault, "marks">,
): RefusedLogins {
  const beginningsOf = ({ user, password }: Account) =>
    marks(JSON.stringify(["login", user.toLowerCase(), password.reveal()])).map((mark) => `${mark}|`);
  const fieldsOf = (login: PasswordLogin) => beginningsOf(login).map((mark) => mark + login.server.toLowerCase());
  return {
    async get(login) {
      const key = `${globalPrefix}refused:${userKey(login.user)}`;
      const found = listOf(await redis.send("hmget", [key, ...fieldsOf(login)])).map(textOrNull);
      const text = found.find((one) => one !== null);
      return text === undefined || text === null ? undefined : v.parse(RefusedLogin, JSON.parse(text));
    },
    async save(login, refused) {
      const [field = "", ...others] = fieldsOf(login);
      const ms = Math.max(0, refused.until - clock.now()) + KEPT_MS;
      await redis.run(SAVE, globalPrefix, [
        userKey(login.user),
        field,
        JSON.stringify(refused),
        Math.round(ms),
        ...others,
      ]);
    },
    async remove(login) {
      await redis.send("hdel", [`${globalPrefix}refused:${userKey(login.user)}`, ...fieldsOf(login)]);
    },
    async allowRetry(account, minMs) {
      const args = [userKey(account.user), Math.round(minMs), ...beginningsOf(account)];
      await redis.run(ALLOW_RETRY, globalPrefix, args);
    },
  };
}

function userKey(user: string): string {
  return createHash("sha256").update(user.toLowerCase()).digest("base64url").slice(0, 22);
}
