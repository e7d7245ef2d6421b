/** Dates in requests. */
import * as v from "valibot";

/** An ISO 8601 date, or date and time. */
export const DateInput = v.union(
  [v.pipe(v.string(), v.isoTimestamp()), v.pipe(v.string(), v.isoDate())],
  "must be an ISO 8601 date, such as 2026-01-31 or 2026-01-31T08:00:00Z",
);

/** The moment that a valid input names. A date alone is its midnight in UTC. */
export function parseDate(input: string): Date {
  return new Date(input);
}
