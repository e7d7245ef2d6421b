/**
 * What is wrong now and who has been told: one document that all nodes share. A cause is one for each kind of problem
 * and server, however many mailboxes have it. It begins once it has lasted, and ends once it has been gone for a while.
 */
import { randomBytes } from "node:crypto";
import * as v from "valibot";

export const Channel = v.picklist(["webhook", "mail"]);
export type Channel = v.InferOutput<typeof Channel>;

/** Something wrong as one look found it. `certain`: it need not last before it counts. */
export type Found = { code: string; place: string; count: number; cause: string; fix: string; certain: boolean };

/** `begunAt` is null while it has not lasted long enough. */
export const Alarm = v.object({
  code: v.string(),
  place: v.string(),
  count: v.number(),
  cause: v.string(),
  fix: v.string(),
  firstSeenAt: v.string(),
  lastSeenAt: v.string(),
  begunAt: v.nullable(v.string()),
});
export type Alarm = v.InferOutput<typeof Alarm>;

/** A message about an alarm on its way. `pending` are the channels that have not taken it; `problem` says why. */
export const Notice = v.object({
  id: v.string(),
  type: v.picklist(["alarm.began", "alarm.ended", "alarm.test"]),
  at: v.string(),
  alarm: v.omit(Alarm, ["firstSeenAt", "lastSeenAt"]),
  pending: v.array(Channel),
  attempts: v.number(),
  nextAttemptAt: v.string(),
  problem: v.nullable(v.string()),
});
export type Notice = v.InferOutput<typeof Notice>;

export const AlarmBook = v.object({
  version: v.literal(1),
  lookedAt: v.nullable(v.string()),
  alarms: v.array(Alarm),
  notices: v.array(Notice),
});
export type AlarmBook = v.InferOutput<typeof AlarmBook>;

export const EMPTY_BOOK: AlarmBook = { version: 1, lookedAt: null, alarms: [], notices: [] };

/** How long a cause must last before it begins, and how long it must be gone before it ends. */
export type Patience = { lastsMs: number; goneMs: number };

/** So many messages may wait. Above that the oldest are dropped. */
const MAX_NOTICES = 200;

/** The book after one look. What began or ended has a notice for each channel. */
export function recordLook(
  book: AlarmBook,
  found: readonly Found[],
  { now, patience, channels }: { now: number; patience: Patience; channels: readonly Channel[] },
): AlarmBook {
  const at = new Date(now).toISOString();
  const known = new Map(book.alarms.map((alarm) => [keyOf(alarm), alarm]));
  const seen = new Map(found.map((one) => [keyOf(one), one]));
  const notices: Notice[] = [];
  const present = [...seen].map(([key, { certain, ...one }]): Alarm => {
    const { firstSeenAt = at, begunAt = null, count = 0 } = known.get(key) ?? {};
    const lasts = certain || now - Date.parse(firstSeenAt) >= patience.lastsMs;
    // A look in between two attempts does not see all of them.
    const most = begunAt === null ? Math.max(count, one.count) : one.count;
    const alarm = { ...one, count: most, firstSeenAt, lastSeenAt: at, begunAt: begunAt ?? (lasts ? at : null) };
    if (begunAt === null && alarm.begunAt !== null) notices.push(makeNotice("alarm.began", alarm, at, channels));
    return alarm;
  });
  // After a pause in which nobody looked, what is not seen may only not have come up again.
  const paused = book.lookedAt !== null && now - Date.parse(book.lookedAt) >= patience.goneMs;
  const missing = book.alarms
    .filter((alarm) => !seen.has(keyOf(alarm)))
    .map((alarm) => (paused ? { ...alarm, lastSeenAt: at } : alarm));
  const isGone = ({ lastSeenAt }: Alarm) => now - Date.parse(lastSeenAt) >= patience.goneMs;
  for (const alarm of missing.filter(isGone))
    if (alarm.begunAt !== null) notices.push(makeNotice("alarm.ended", alarm, at, channels));
  const alarms = [...present, ...missing.filter((alarm) => !isGone(alarm))];
  return { version: 1, lookedAt: at, alarms, notices: [...book.notices, ...notices].slice(-MAX_NOTICES) };
}

function keyOf({ code, place }: Pick<Found, "code" | "place">): string {
  return JSON.stringify([code, place]);
}

export function makeNotice(
  type: Notice["type"],
  { code, place, count, cause, fix, begunAt }: Notice["alarm"],
  at: string,
  channels: readonly Channel[],
): Notice {
  const id = `alm_${randomBytes(12).toString("hex")}`;
  const alarm = { code, place, count, cause, fix, begunAt };
  return { id, type, at, alarm, pending: [...channels], attempts: 0, nextAttemptAt: at, problem: null };
}
