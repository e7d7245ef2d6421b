/** How many messages a mailbox has sent within the last hour, in SQLite. */
import { clock } from "../../time.ts";
import type { Database } from "./database.ts";
import { integer } from "./row.ts";

const HOUR_MS = 3_600_000;

export type HourlyQuotas = {
  /**
   * Runs inside the transaction that adds one more message. Returns when there is room again if the limit is reached.
   */
  consume(mailbox: string, perHour: number): Date | undefined;
};

/** Counts the rows only sometimes. Between two counts it knows an upper bound of what a mailbox has added. */
export function hourlyQuotas(db: Database): HourlyQuotas {
  const upperBounds = new Map<string, number>();
  return {
    consume(mailbox, perHour) {
      const since = clock.now() - HOUR_MS;
      let used = upperBounds.get(mailbox) ?? perHour;
      if (used >= perHour) {
        const sql = "select count(*) as n from outbox where mailbox = ? and created_at > ?";
        used = integer(db.get(sql, mailbox, since), "n");
      }
      upperBounds.set(mailbox, used + 1);
      if (used < perHour) return undefined;
      const selectNth =
        "select created_at from outbox where mailbox = ? and created_at > ? order by created_at desc limit 1 offset ?";
      return new Date(integer(db.get(selectNth, mailbox, since, perHour - 1), "created_at") + HOUR_MS);
    },
  };
}
