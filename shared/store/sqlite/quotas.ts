/** How much a mailbox has sent within the hour, in SQLite. */
import type { Database } from "./database.ts";
import { integer } from "./row.ts";

const HOUR_MS = 3_600_000;

export type Shares = {
  /** Part of a step that takes up one more message, unless this says when there is room again. */
  full(mailbox: string, perHour: number): Date | undefined;
};

/** Counts only now and then: between two counts it knows that a mailbox has taken up at most so many. */
export function hourShares(db: Database): Shares {
  const atMost = new Map<string, number>();
  return {
    full(mailbox, perHour) {
      const since = Date.now() - HOUR_MS;
      let taken = atMost.get(mailbox) ?? perHour;
      if (taken >= perHour) {
        const sql = "select count(*) as n from outbox where mailbox = ? and created_at > ?";
        taken = integer(db.get(sql, mailbox, since), "n");
      }
      atMost.set(mailbox, taken + 1);
      if (taken < perHour) return undefined;
      const nth =
        "select created_at from outbox where mailbox = ? and created_at > ? order by created_at desc limit 1 offset ?";
      return new Date(integer(db.get(nth, mailbox, since, perHour - 1), "created_at") + HOUR_MS);
    },
  };
}
