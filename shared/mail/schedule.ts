/** The schedule of a polled mailbox: the time of the next run, by interval or by cron expression. */
import { Cron } from "croner";
import type { PollSchedule } from "../contract/picking.ts";

/** A cron expression cannot run more often than the shortest interval. */
const MIN_INTERVAL_MS = 10_000;
const DAY_MS = 24 * 3_600_000;

/** When the run after the one of `dueAt` is due, both in milliseconds since 1970. */
export function nextRun(poll: PollSchedule, dueAt: number): number {
  if ("everySeconds" in poll) return dueAt + poll.everySeconds * 1000;
  const next = parseCron(poll).nextRun(new Date(dueAt))?.getTime();
  // An expression that never matches again (a 30th of February) runs once a day, so that somebody may notice.
  return Math.max(next ?? dueAt + DAY_MS, dueAt + MIN_INTERVAL_MS);
}

/** What is wrong with a schedule, as a path below `poll` and what to do about it. Undefined when it is valid. */
export function validateSchedule(poll: PollSchedule): { path: string; message: string } | undefined {
  if ("everySeconds" in poll) return undefined;
  if (poll.timeZone !== undefined && !isTimeZone(poll.timeZone)) {
    return { path: "timeZone", message: "must be the name of a time zone, such as Europe/Berlin" };
  }
  try {
    parseCron(poll);
    return undefined;
  } catch {
    return { path: "cron", message: "must be a cron expression of five fields, such as */5 * * * *" };
  }
}

function parseCron({ cron, timeZone = "UTC" }: Extract<PollSchedule, { cron: string }>): Cron {
  return new Cron(cron, { mode: "5-part", timezone: timeZone, paused: true });
}

function isTimeZone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat("en", { timeZone: name }).format(0) !== "";
  } catch {
    return false;
  }
}
