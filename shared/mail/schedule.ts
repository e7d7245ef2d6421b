/** When a polled mailbox is looked at: the next time after a run, by interval or by cron expression. */
import { Cron } from "croner";
import type { Poll } from "../contract/picking.ts";

/** No cron expression may call more often than the shortest interval. */
const SHORTEST_MS = 10_000;
const DAY_MS = 24 * 3_600_000;

/** When the run after one that fell due at `dueAt` falls due, both in milliseconds since 1970. */
export function nextRun(poll: Poll, dueAt: number): number {
  if ("everySeconds" in poll) return dueAt + poll.everySeconds * 1000;
  const next = cronOf(poll).nextRun(new Date(dueAt))?.getTime();
  // An expression that never comes true again (a 30th of February): once a day somebody may notice.
  return Math.max(next ?? dueAt + DAY_MS, dueAt + SHORTEST_MS);
}

/** What is wrong with a schedule, as a path below `poll` and what to do about it; undefined when it can be used. */
export function wrongSchedule(poll: Poll): { path: string; message: string } | undefined {
  if ("everySeconds" in poll) return undefined;
  if (poll.timeZone !== undefined && !isTimeZone(poll.timeZone)) {
    return { path: "timeZone", message: "must be the name of a time zone, such as Europe/Berlin" };
  }
  try {
    cronOf(poll);
    return undefined;
  } catch {
    return { path: "cron", message: "must be a cron expression of five fields, such as */5 * * * *" };
  }
}

function cronOf({ cron, timeZone = "UTC" }: Extract<Poll, { cron: string }>): Cron {
  return new Cron(cron, { mode: "5-part", timezone: timeZone, paused: true });
}

function isTimeZone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat("en", { timeZone: name }).format(0) !== "";
  } catch {
    return false;
  }
}
