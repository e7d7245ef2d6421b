/**
 * Mailboxes in an order, by sorted sets in Redis: one for each status, and one of all by their last message. Its members
 * are "time NUL id", with an empty time for a mailbox without mail.
 */
import { type MailboxOrder, type OrderedMailboxes, STATUS_ORDER } from "../../measured/mailbox-order.ts";
import { decodePageToken, encodePageToken } from "../../page-token.ts";
import type { RedisConnection } from "../connection/client.ts";
import { redisScript } from "../connection/script.ts";
import { numberOf, textsOf } from "../connection/reply.ts";
import type { RedisKeys } from "../keys.ts";

/** Keeps the set of last messages, in scripts that change states. A state is "status JSON", and false for none. */
export const LUA_ARRIVALS = `
  local function arrivalOf(id, state)
    return (state and state:match('"lastArrivalAt":"([^"]*)"') or '') .. '\\0' .. id
  end
  local function moveArrival(id, was, is)
    local before, now = arrivalOf(id, was), arrivalOf(id, is)
    if was and is and before == now then return end
    if was then redis.call('ZREM', base .. 'arrivals', before) end
    if is then redis.call('ZADD', base .. 'arrivals', 0, now) end
  end
`;

/**
 * Corrects the set for these ids, in pairs with what it has of them ('' if that is unknown). A node of an older version
 * wrote their states without it.
 */
const CORRECT = redisScript(
  "local base = KEYS[1]",
  LUA_ARRIVALS,
  `
  for i = 1, #ARGV, 2 do
    local id = ARGV[i]
    local state = redis.call('HGET', base .. 'states', id)
    if ARGV[i + 1] ~= '' then redis.call('ZREM', base .. 'arrivals', ARGV[i + 1]) end
    if state then redis.call('ZADD', base .. 'arrivals', 0, arrivalOf(id, state)) end
  end
  return 1`,
);

/** Of these members those that say something else than the states. */
const FIND_WRONG = redisScript(
  "local base = KEYS[1]",
  LUA_ARRIVALS,
  `
  local wrong = {}
  for _, member in ipairs(ARGV) do
    local id = member:match('%z(.*)$')
    local state = redis.call('HGET', base .. 'states', id)
    if not state or arrivalOf(id, state) ~= member then wrong[#wrong + 1] = member end
  end
  return wrong`,
);

const BATCH = 500;

export function redisOrderedMailboxes(redis: RedisConnection, { globalPrefix }: RedisKeys): OrderedMailboxes {
  const key = (name: string) => globalPrefix + name;

  const listByState = async (limit: number, [first = "", last = ""]: string[] = []): Promise<Placed[]> => {
    const statuses = STATUS_ORDER.slice(
      Math.max(
        0,
        STATUS_ORDER.findIndex((status) => status === first),
      ),
    );
    const found: Placed[] = [];
    for (const status of statuses) {
      const from = status === first ? `(${last}` : "-";
      const range = [key(`status:${status}`), from, "+", "limit", 0, limit - found.length];
      const ids = textsOf(await redis.send("zrangebylex", range));
      found.push(...ids.map((id): Placed => [status, id]));
      if (found.length >= limit) break;
    }
    return found;
  };

  const correctAll = async () => {
    let after = "-";
    for (;;) {
      const ids = textsOf(await redis.send("zrangebylex", [key("ids"), after, "+", "limit", 0, BATCH]));
      if (ids.length > 0)
        await redis.run(
          CORRECT,
          globalPrefix,
          ids.flatMap((id) => [id, ""]),
        );
      if (ids.length < BATCH) return;
      after = `(${ids.at(-1)}`;
    }
  };

  const listByLastMail = async (limit: number, place: string[] | undefined): Promise<Placed[]> => {
    if (place === undefined) {
      const counts = await Promise.all([redis.send("zcard", [key("arrivals")]), redis.send("hlen", [key("states")])]);
      if (numberOf(counts[0]) < numberOf(counts[1])) await correctAll();
    }
    const from = place === undefined ? "+" : `(${place.join("\0")}`;
    const range = [key("arrivals"), from, "-", "limit", 0, limit];
    const members = textsOf(await redis.send("zrevrangebylex", range));
    const wrong = members.length === 0 ? [] : textsOf(await redis.run(FIND_WRONG, globalPrefix, members));
    if (wrong.length > 0)
      await redis.run(
        CORRECT,
        globalPrefix,
        wrong.flatMap((member) => [placedOf(member)[1], member]),
      );
    return members.map(placedOf);
  };

  return {
    async list({ order, limit, after }) {
      const place = after === undefined ? undefined : decodePageToken(after, 2);
      const lists: Record<MailboxOrder, () => Promise<Placed[]>> = {
        state: () => listByState(limit, place),
        lastMail: () => listByLastMail(limit, place),
      };
      return (await lists[order]()).map(([at, id]) => ({ id, place: encodePageToken([at, id]) }));
    },
  };
}

type Placed = [key: string, id: string];

function placedOf(member: string): Placed {
  const end = member.indexOf("\0");
  return [member.slice(0, end), member.slice(end + 1)];
}
