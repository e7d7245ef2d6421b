/** When a polled mailbox is polled, which of its messages are left out, and into which parts the others are split. */
import * as v from "valibot";

/** Every so many seconds, or by a cron expression (five fields) in a time zone (UTC when absent). */
export const PollSchedule = v.union(
  [
    v.strictObject({ everySeconds: v.pipe(v.number(), v.minValue(10), v.maxValue(86400)) }),
    v.strictObject({
      cron: v.pipe(v.string(), v.minLength(1, "must not be empty"), v.maxLength(200)),
      timeZone: v.optional(v.pipe(v.string(), v.minLength(1, "must not be empty"), v.maxLength(64))),
    }),
  ],
  "must be { everySeconds } or { cron, timeZone }",
);
export type PollSchedule = v.InferOutput<typeof PollSchedule>;

const Pattern = v.pipe(v.string(), v.minLength(1, "must not be empty"), v.maxLength(500));
const Patterns = v.union(
  [Pattern, v.pipe(v.array(Pattern), v.minLength(1), v.maxLength(200))],
  "must be a pattern or a list of patterns",
);
const Bytes = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(1e12));

/**
 * A rule matches a message that has everything the rule names. Patterns have `*` and `?`, must match the whole value,
 * and ignore case. Of a list one match is enough. `from` is the sender's address. `automatic` means mail from a machine
 * (RFC 3834 and similar headers). The age counts from when the mail server received the message.
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

/** A message is left out if a rule of `exclude` matches it, or if `only` is given and none of its rules matches. */
export const Filters = v.strictObject({ exclude: v.optional(Rules), only: v.optional(Rules) });
export type Filters = v.InferOutput<typeof Filters>;

/** The body as one delivery, and each attachment as another one. You can switch off one of them, not both. */
export const Split = v.strictObject({
  body: v.optional(v.boolean(), true),
  attachments: v.optional(v.boolean(), true),
});
export type Split = v.InferOutput<typeof Split>;
