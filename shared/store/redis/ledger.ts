/**
 * The ledger in Redis. A done message at or below its folder's cursor needs no entry. `open` holds what is in flight,
 * `ahead` what was done before the cursor passed it. Each change is one script over the keys of one mailbox, with
 * Redis' own clock.
 */
import { createHash } from "node:crypto";
import { type MessageRef } from "../../contract/message.ts";
import { Problem } from "../../contract/problem.ts";
import type { RedisConnection } from "./connection/client.ts";
import { redisScript } from "./connection/script.ts";
import type { RedisKeys } from "./keys.ts";
import { LUA_FINGERPRINTS, type FingerprintWindow } from "./fingerprints.ts";
import { listOf, textsOf } from "./connection/reply.ts";
import type { Claim, Ledger } from "../store.ts";
import { LUA_CLOCK, LUA_LEDGER } from "./lua.ts";

const CLAIM = redisScript(
  LUA_CLOCK,
  LUA_LEDGER,
  `
  local claims = {}
  for i = 2, #ARGV, 3 do
    local folder, epoch, uid = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    local place = placeOf(folder, epoch, uid)
    local held = redis.call('HGET', base .. 'open', place)
    local claim = 'yours'
    if held then
      if tonumber(held) > now then claim = 'busy' end
    elseif tonumber(uid) <= low(folder, epoch) or redis.call('HEXISTS', base .. 'ahead', place) == 1 then
      claim = 'done'
    end
    if claim == 'yours' then redis.call('HSET', base .. 'open', place, now + ARGV[1]) end
    claims[#claims + 1] = claim
  end
  return claims`,
);

const RENEW = redisScript(
  LUA_CLOCK,
  LUA_LEDGER,
  `
  for i = 2, #ARGV, 3 do
    local place = placeOf(ARGV[i], ARGV[i + 1], ARGV[i + 2])
    local held = redis.call('HGET', base .. 'open', place)
    if held and tonumber(held) > 0 then redis.call('HSET', base .. 'open', place, now + ARGV[1]) end
  end
  return 1`,
);

const RELEASE = redisScript(
  LUA_CLOCK,
  LUA_LEDGER,
  LUA_FINGERPRINTS,
  `
  for i = 3, #ARGV, 3 do
    local place = placeOf(ARGV[i], ARGV[i + 1], ARGV[i + 2])
    if redis.call('HEXISTS', base .. 'open', place) == 1 then redis.call('HSET', base .. 'open', place, 0) end
    dropClaimed(place)
  end
  return 1`,
);

const MARK_DONE = redisScript(
  LUA_CLOCK,
  LUA_LEDGER,
  LUA_FINGERPRINTS,
  `
  for i = 3, #ARGV, 3 do
    done(ARGV[i], ARGV[i + 1], ARGV[i + 2])
    dropClaimed(placeOf(ARGV[i], ARGV[i + 1], ARGV[i + 2]))
  end
  return 1`,
);

const IDENTIFY = redisScript(
  LUA_CLOCK,
  LUA_LEDGER,
  LUA_FINGERPRINTS,
  `
  local folder, epoch, uid, print, own, ttl = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8])
  local found = findPrint(print)
  if own ~= '' and found and isTwin(found, folder, epoch, uid) then
    return { takePrint(findPrint(own), own, placeOf(folder, epoch, uid), ttl), 'twin' }
  end
  return { takePrint(found, print, placeOf(folder, epoch, uid), ttl, own == ''), 'alone' }`,
);

export function redisLedger(redis: RedisConnection, keys: RedisKeys, window: FingerprintWindow): Ledger {
  return {
    async claim(mailbox, messages, ttlMs) {
      if (messages.length === 0) return [];
      const reply = await redis.run(CLAIM, keys.mailboxPrefix(mailbox), [
        Math.ceil(ttlMs),
        ...messageArguments(messages),
      ]);
      return textsOf(reply).map(parseClaim);
    },
    async renew(mailbox, messages, ttlMs) {
      await redis.run(RENEW, keys.mailboxPrefix(mailbox), [Math.ceil(ttlMs), ...messageArguments(messages)]);
    },
    async identify(mailbox, message, fingerprint, ttlMs) {
      const ownFingerprint = message.perhapsKnown ? "" : perMessageFingerprint(fingerprint, message);
      const args = [
        ...window.scriptArguments(),
        ...messageArguments([message]),
        fingerprint.toLowerCase(),
        ownFingerprint,
        Math.ceil(ttlMs),
      ];
      const [kind, twin] = listOf(await redis.run(IDENTIFY, keys.mailboxPrefix(mailbox), args));
      if (kind !== "new" && kind !== "duplicate" && kind !== "busy") throw toReplyProblem("an identity");
      return { kind, sharesContent: twin === "twin" };
    },
    async release(mailbox, messages) {
      await redis.run(RELEASE, keys.mailboxPrefix(mailbox), [
        ...window.scriptArguments(),
        ...messageArguments(messages),
      ]);
    },
    async markDone(mailbox, messages) {
      await redis.run(MARK_DONE, keys.mailboxPrefix(mailbox), [
        ...window.scriptArguments(),
        ...messageArguments(messages),
      ]);
    },
  };
}

/** Three arguments for each message: folder, epoch, uid. */
export function messageArguments(messages: MessageRef[]): (string | number)[] {
  return messages.flatMap(({ folder, epoch, uid }) => [folder, epoch, uid]);
}

function perMessageFingerprint(fingerprint: string, ref: MessageRef): string {
  const location = `${fingerprint}|${ref.folder}|${ref.epoch}|${ref.uid}`;
  return createHash("sha256").update(location).digest("hex").slice(0, 32);
}

function parseClaim(text: string): Claim {
  if (text === "yours" || text === "busy" || text === "done") return text;
  throw toReplyProblem("a claim");
}

function toReplyProblem(what: string): Problem {
  return new Problem("store", `Redis answered ${what} that cannot be read`, { retry: "never" });
}
