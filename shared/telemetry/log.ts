/** Facts as lines on a stream: JSON for machines, aligned words for people. One subscriber writes all there is to log. */
import type { Config } from "../config.ts";
import type { Fact } from "./events.ts";

type Level = Config["LOG_LEVEL"];

/** How loud each kind of fact is. */
const LEVELS: Record<Fact["kind"], Level> = {
  "service.started": "info",
  "service.stopping": "info",
  "service.warned": "warn",
  "service.failed": "error",
  "mailbox.registered": "info",
  "mailbox.changed": "info",
  "mailbox.removed": "info",
  "mailbox.resync": "info",
  "mailbox.status": "info",
  "mailbox.connected": "debug",
  "mailbox.disconnected": "warn",
  "mailbox.reset": "warn",
  "mailbox.overran": "warn",
  "mail.arrived": "debug",
  "mail.delivered": "info",
  "mail.retrying": "warn",
  "mail.parked": "error",
  "mail.duplicate": "info",
  "mail.gone": "info",
  "mail.filtered": "info",
  "mail.limited": "warn",
  "mail.unfetched": "warn",
  "mail.skipped": "info",
  "mail.tidied": "debug",
  "send.queued": "debug",
  "send.sent": "info",
  "send.retrying": "warn",
  "send.failed": "error",
  "send.unknown": "error",
  "send.bounced": "warn",
  "send.answered": "info",
  "send.uncopied": "warn",
  "send.untold": "warn",
  "endpoint.rested": "warn",
  "endpoint.recovered": "info",
  "endpoint.gone": "error",
  "task.failed": "warn",
  "queue.away": "warn",
  "queue.back": "info",
  "endpoint.told": "info",
  "listeners.guessed": "warn",
  "listeners.recorded": "warn",
  "http.answered": "debug",
};

const LOUDNESS: Record<Level, number> = { debug: 0, info: 1, warn: 2, error: 3 };

/** Where lines go: `process.stdout`, or anything that takes text. */
export type Out = { write(text: string): unknown; isTTY?: boolean };

/**
 * A listener that writes each fact of at least `LOG_LEVEL` as one line: JSON in production or when `out` is no terminal,
 * readable otherwise. Facts hold no secrets; whatever looks like one anyway (in a server's own words) is hidden.
 */
export function logTo(out: Out, config: Pick<Config, "LOG_LEVEL" | "NODE_ENV">): (fact: Fact) => void {
  const readable = out.isTTY === true && config.NODE_ENV !== "production";
  return (fact) => {
    const level = levelOf(fact);
    if (LOUDNESS[level] < LOUDNESS[config.LOG_LEVEL]) return;
    const line = readable ? readableLine(fact, level) : jsonLine(fact, level);
    out.write(`${hidden(line)}\n`);
  };
}

/** Lines that follow each other within this are one write. */
const GATHER_MS = 10;

/** Writes at the end of the turn, and what comes soon after a write together: a line a mail would be a system call a mail. */
export function gathered(out: Out): Out {
  let lines = "";
  let wroteAt = -GATHER_MS;
  const write = () => {
    const all = lines;
    lines = "";
    wroteAt = performance.now();
    out.write(all);
  };
  return {
    isTTY: out.isTTY === true,
    write(text) {
      if (lines === "") {
        const wait = wroteAt + GATHER_MS - performance.now();
        if (wait > 0) setTimeout(write, wait);
        else setImmediate(write);
      }
      lines += text;
    },
  };
}

/** A mailbox that waits for a person and a task that is given up are louder than their kind. */
function levelOf(fact: Fact): Level {
  if (fact.kind === "mailbox.status" && fact.status === "needs_attention") return "error";
  if (fact.kind === "task.failed" && fact.retryAt === null) return "error";
  return LEVELS[fact.kind];
}

function jsonLine({ at, kind, ...members }: Fact, level: Level): string {
  return JSON.stringify({ at, level, kind, ...members });
}

const COLOURS: Record<Level, string> = { debug: "\x1b[2m", info: "", warn: "\x1b[33m", error: "\x1b[31m" };

function readableLine({ at, kind, ...members }: Fact, level: Level): string {
  const words = Object.entries(members).map(([name, value]) => `${name}=${readableValue(value)}`);
  const reset = COLOURS[level] ? "\x1b[0m" : "";
  return `${at.slice(11, 23)} ${COLOURS[level]}${level.padEnd(5)} ${kind.padEnd(20)}${reset} ${words.join(" ")}`;
}

function readableValue(value: unknown): string {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return /^[^\s"=]+$/.test(text) ? text : JSON.stringify(value);
}

const SECRETS = /(whsec_|Bearer\s+|Basic\s+)[A-Za-z0-9+/=._~-]{8,}/gi;

function hidden(line: string): string {
  return line.replace(SECRETS, "$1[secret]");
}
