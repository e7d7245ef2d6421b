/** When a polled mailbox is looked at, which of its messages are left out, and in which pieces the others are delivered. */
import * as v from "valibot";

/** Every so many seconds, or at the times of a cron expression (five fields) in a time zone (UTC without one). */
export const Poll = v.union(
  [
    v.strictObject({ everySeconds: v.pipe(v.number(), v.minValue(10), v.maxValue(86400)) }),
    v.strictObject({
      cron: v.pipe(v.string(), v.minLength(1, "must not be empty"), v.maxLength(200)),
      timeZone: v.optional(v.pipe(v.string(), v.minLength(1, "must not be empty"), v.maxLength(64))),
    }),
  ],
  "must be { everySeconds } or { cron, timeZone }",
);
export type Poll = v.InferOutput<typeof Poll>;

const Pattern = v.pipe(v.string(), v.minLength(1, "must not be empty"), v.maxLength(500));
const Patterns = v.union(
  [Pattern, v.pipe(v.array(Pattern), v.minLength(1), v.maxLength(200))],
  "must be a pattern or a list of patterns",
);
const Bytes = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(1e12));

/**
 * A rule matches a message that has everything it names. Patterns know `*` and `?`, have to match the whole value, and do not
 * mind upper and lower case; of a list one suffices. `from` is the sender's address; `automatic` is what a machine sent
 * (RFC 3834 and its relatives); the age is counted from when the mail server received the message.
 */
export const FilterRule = v.strictObject({
  from: v.optional(Patterns),
  subject: v.optional(Patterns),
  folder: v.optional(Patterns),
  largerThanBytes: v.optional(Bytes),
  smallerThanBytes: v.optional(Bytes),
  olderThanDays: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(36500))),
  hasAttachment: v.optional(v.boolean()),
  automatic: v.optional(v.boolean()),
});
export type FilterRule = v.InferOutput<typeof FilterRule>;

const Rules = v.pipe(v.array(FilterRule), v.maxLength(100));

/** Left out is what a rule of `exclude` matches, and, where `only` is given, what none of its rules matches. */
export const Filters = v.strictObject({ exclude: v.optional(Rules), only: v.optional(Rules) });
export type Filters = v.InferOutput<typeof Filters>;

/** The body as one delivery, each attachment as one of its own; either can be switched off, not both. */
export const Split = v.strictObject({
  body: v.optional(v.boolean(), true),
  attachments: v.optional(v.boolean(), true),
});
export type Split = v.InferOutput<typeof Split>;
