/** Writes facts as lines: JSON for machines, aligned words for people. This one subscriber writes the whole log. */
import type { Config } from "../config.ts";
import type { Fact } from "./events.ts";
import type { LogStream } from "./log-stream.ts";

type Level = Config["LOG_LEVEL"];

/** The log level of each kind of fact. */
const LEVELS: Record<Fact["kind"], Level> = {
  "service.started": "info",
  "service.stopping": "info",
  "service.warned": "warn",
  "service.failed": "error",
  "mailbox.registered": "info",
  "mailbox.changed": "info",
  "mailbox.removed": "info",
  "consent.refused": "info",
  "mailbox.resync": "info",
  "mailbox.status": "info",
  "mailbox.connected": "debug",
  "mailbox.slow_push": "warn",
  "mailbox.push_refused": "warn",
  "mailbox.disconnected": "warn",
  "mailbox.reset": "warn",
  "mailbox.poll_overran": "warn",
  "mail.arrived": "debug",
  "mail.delivered": "info",
  "mail.retrying": "warn",
  "mail.parked": "error",
  "mail.duplicate": "info",
  "mail.gone": "info",
  "mail.renumbered": "info",
  "mail.filtered": "info",
  "mail.limited": "warn",
  "mail.download_failed": "warn",
  "mail.skipped": "info",
  "mail.kept": "warn",
  "mail.after_delivery_done": "debug",
  "send.queued": "debug",
  "send.sent": "info",
  "send.retrying": "warn",
  "send.failed": "error",
  "send.unknown": "error",
  "send.bounced": "warn",
  "send.receipt_received": "info",
  "send.auto_replied": "info",
  "send.copy_failed": "warn",
  "send.notify_failed": "warn",
  "endpoint.paused": "warn",
  "endpoint.recovered": "info",
  "endpoint.gone": "error",
  "endpoint.held": "warn",
  "endpoint.released": "info",
  "task.failed": "warn",
  "queue.connection_failed": "warn",
  "queue.recovered": "info",
  "endpoint.notified": "info",
  "creatio.request_guessed": "warn",
  "creatio.request_recorded": "warn",
  "api.changed": "info",
  "access.refused": "info",
  "access.limited": "warn",
  "alarm.began": "error",
  "alarm.ended": "info",
  "alarm.not_told": "warn",
  "http.answered": "debug",
};

const LEVEL_ORDER: Record<Level, number> = { debug: 0, info: 1, warn: 2, error: 3 };

/**
 * Returns a subscriber that writes each fact of at least `LOG_LEVEL` as one line: JSON in production or when `out` is
 * no terminal, readable otherwise. Facts hold no secrets. Anything that looks like one anyway (in a server's own words)
 * is hidden.
 */
export function logTo(out: LogStream, config: Pick<Config, "LOG_LEVEL" | "NODE_ENV">): (fact: Fact) => void {
  const readable = out.isTTY === true && config.NODE_ENV !== "production";
  return (fact) => {
    const level = getLevel(fact);
    if (LEVEL_ORDER[level] < LEVEL_ORDER[config.LOG_LEVEL]) return;
    const line = readable ? readableLine(fact, level) : jsonLine(fact, level);
    out.write(`${redactSecrets(line)}\n`);
  };
}

/** A mailbox that needs a person, and a task that is parked, have a higher level than their kind. */
function getLevel(fact: Fact): Level {
  if (fact.kind === "mailbox.status" && fact.status === "needs_attention") return "error";
  if (fact.kind === "task.failed" && fact.retryAt === null) return "error";
  return LEVELS[fact.kind];
}

function jsonLine({ at, kind, ...members }: Fact, level: Level): string {
  return JSON.stringify({ at, level, kind, ...members });
}

const COLOURS: Record<Level, string> = { debug: "\x1b[2m", info: "", warn: "\x1b[33m", error: "\x1b[31m" };

function readableLine({ at, kind, ...members }: Fact, level: Level): string {
  const fields = Object.entries(members).map(([name, value]) => `${name}=${readableValue(value)}`);
  const reset = COLOURS[level] ? "\x1b[0m" : "";
  return `${at.slice(11, 23)} ${COLOURS[level]}${level.padEnd(5)} ${kind.padEnd(24)}${reset} ${fields.join(" ")}`;
}

function readableValue(value: unknown): string {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return /^[^\s"=]+$/.test(text) ? text : JSON.stringify(value);
}

/** An ordinary word after "Basic" has no digit, no sign and no capital inside. */
const SECRETS =
  /(whsec_|\b(?:bearer|Bearer|BEARER|basic|Basic|BASIC)\s+)(?=[A-Za-z]*(?:[a-z][A-Z]|[\d+/=_~]))[A-Za-z0-9+/=._~-]{8,}/g;

function redactSecrets(line: string): string {
  return line.replace(SECRETS, "$1[secret]");
}
