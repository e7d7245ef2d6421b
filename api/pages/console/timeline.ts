/** What happened to a mailbox, in words: its facts, newest first, repeats as one row. */
import { html } from "hono/html";
import type { Fact } from "../../../shared/telemetry/events.ts";
import type { Html } from "../html.ts";
import { table } from "./parts.ts";
import { toneMark, type Tone } from "./states.ts";
import { countOf, durationOf, foreign, relativeTime } from "./words.ts";

/** `count` facts in a row that say the same; `first` is the oldest of them. */
type Row = { tone: Tone; kind: string; text: string; at: string; first: string; count: number };

export function timeline(facts: readonly Fact[]): Html {
  if (facts.length === 0) return html`<p>Nothing has happened yet.</p>`;
  const rows = groupRepeats(facts).map(({ tone, kind, text, at, first, count }) => [
    relativeTime(at),
    toneMark(tone, kind),
    count > 1
      ? html`${foreign(text)} <strong>${count.toLocaleString("en")} times</strong>, since ${relativeTime(first)}`
      : foreign(text),
  ]);
  return table(["When", "What", "In words"], rows, "The last 200 facts, the newest first. Repeats are one row.");
}

function groupRepeats(facts: readonly Fact[]): Row[] {
  const rows: Row[] = [];
  for (const fact of facts) {
    const [tone, text] = describe(fact);
    const last = rows.at(-1);
    if (last && last.kind === fact.kind && last.text === text) {
      last.count += 1;
      last.first = fact.at;
    } else rows.push({ tone, kind: fact.kind, text, at: fact.at, first: fact.at, count: 1 });
  }
  return rows;
}

const BAD_STATUS: ReadonlySet<string> = new Set(["needs_attention", "reconnecting", "throttled"]);

/** Facts about the subscription and the mailbox itself. All others have a general form. */
function describe(fact: Fact): [Tone, string] {
  switch (fact.kind) {
    case "mailbox.registered":
      return ["good", `Registered with the address ${fact.address}.`];
    case "mailbox.changed":
      return ["off", "Its settings were changed, paused or resumed."];
    case "mailbox.resync":
      return ["off", `Read again since ${fact.since}: ${countOf(fact.messages, "message")}.`];
    case "mailbox.status":
      return [
        BAD_STATUS.has(fact.status) ? "warn" : "good",
        `${fact.status.replace("_", " ")}${fact.failure ? `: ${fact.failure.cause}` : ""}`,
      ];
    case "mailbox.connected":
      return ["good", `Connected and compared; ${fact.push ? "the server pushes" : "it is polled"}.`];
    case "mailbox.disconnected":
      return ["warn", `Not connected: ${fact.failure.cause}`];
    case "mail.arrived":
      return ["good", `${countOf(fact.count, "new message")} in ${fact.folder}.`];
    case "api.changed":
      return ["off", `${fact.actor.name}: ${fact.method} ${fact.route}, answered ${fact.status ?? "unknown"}.`];
    default:
      return describeMail(fact);
  }
}

/** Facts about messages. */
function describeMail(fact: Fact): [Tone, string] {
  switch (fact.kind) {
    case "mail.delivered":
      return ["good", `Delivered ${durationOf(fact.ms)} after its arrival, attempt ${fact.attempts}.`];
    case "mail.retrying":
      return ["warn", `Waits for another attempt: ${fact.reason}`];
    case "mail.parked":
      return ["bad", `Parked: ${fact.reason}`];
    case "mail.filtered":
      return ["off", `Left out by the rule ${fact.rule}.`];
    case "mail.skipped":
    case "mail.kept":
      return ["off", fact.reason];
    case "mail.download_failed":
      return ["warn", `Not downloaded from ${fact.folder}: ${fact.failure.cause}`];
    case "send.failed":
    case "send.unknown":
      return ["bad", `After ${countOf(fact.attempts, "attempt")}: ${fact.reason}`];
    case "send.bounced":
      return ["bad", `Returned for ${fact.recipient}: ${fact.reason}`];
    case "send.sent":
      return ["good", `Sent to ${countOf(fact.recipients, "recipient")}.`];
    default:
      return ["off", plainMembers(fact)];
  }
}

const HIDDEN = new Set(["at", "kind", "mailbox"]);

/** The members of any other fact, as they are. */
function plainMembers(fact: Fact): string {
  const members = Object.entries(fact).filter(([name]) => !HIDDEN.has(name));
  return members
    .map(([name, value]) => `${name} ${typeof value === "object" ? JSON.stringify(value) : value}`)
    .join(", ");
}
