/** What the routes of alarms answer. */
import * as v from "valibot";
import { Alarm, Channel, Notice } from "./book.ts";

export const AlarmsView = v.object({
  channels: v.pipe(v.array(Channel), v.description("Who is told, by ALARM_URL and ALARM_MAILBOX. Empty: nobody.")),
  lookedAt: v.nullable(v.string()),
  alarms: v.pipe(v.array(Alarm), v.description("One for each code and place. It has begun if `begunAt` is set.")),
  undelivered: v.pipe(v.array(Notice), v.description("Messages that no receiver has taken yet.")),
});
export type AlarmsView = v.InferOutput<typeof AlarmsView>;

export const TestReport = v.object({
  ok: v.boolean(),
  channels: v.array(v.object({ channel: Channel, ok: v.boolean(), cause: v.exactOptional(v.string()) })),
});
export type TestReport = v.InferOutput<typeof TestReport>;
