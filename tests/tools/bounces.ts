/**
 * Reads every message of a folder as a notification and prints how many were recognised, and of how many the recipient, the status and
 * the reason are known: `bun run bounces FOLDER [--expected FILE] [--list]`. FILE holds what sisimai (libsisimai.org) says of the same
 * messages, one JSON object of its dump a line; then the table counts what agrees, and `--list` names what does not.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { parseArgs } from "node:util";
import * as v from "valibot";
import type { Bounce, BounceReason, ParsedMessage } from "../../shared/contract/received.ts";
import { parseMessage } from "../../shared/mail/mime/message.ts";

type Report = Bounce["recipients"][number];

const Expected = v.object({
  origin: v.string(),
  recipient: v.string(),
  alias: v.optional(v.string(), ""),
  deliverystatus: v.string(),
  reason: v.string(),
  action: v.string(),
  feedbacktype: v.optional(v.string(), ""),
});
type Expected = v.InferOutput<typeof Expected>;

/** For each reason of the service, the reasons of Sisimai that mean the same. `filtered` and `rejected` are its words for a refusal that names no reason. */
const REASONS: Record<string, BounceReason[]> = {
  userunknown: ["user_unknown"],
  hasmoved: ["user_unknown"],
  filtered: ["user_unknown", "policy", "mailbox_disabled", "blocked", "spam", "unknown"],
  mailboxfull: ["mailbox_full"],
  suspend: ["mailbox_disabled", "user_unknown"],
  hostunknown: ["host_unknown"],
  notaccept: ["host_unknown"],
  mesgtoobig: ["too_large"],
  exceedlimit: ["too_large"],
  blocked: ["blocked"],
  badreputation: ["blocked"],
  requireptr: ["blocked"],
  rejected: ["policy", "blocked"],
  spamdetected: ["spam", "blocked"],
  virusdetected: ["spam"],
  authfailure: ["authentication"],
  policyviolation: ["policy", "spam", "blocked"],
  securityerror: ["policy", "authentication"],
  norelaying: ["policy"],
  notcompliantrfc: ["policy"],
  contenterror: ["policy", "too_large", "server_error"],
  failedstarttls: ["policy"],
  expired: ["temporary"],
  networkerror: ["temporary", "host_unknown", "server_error"],
  toomanyconn: ["temporary", "blocked", "policy"],
  speeding: ["temporary", "blocked"],
  systemfull: ["temporary", "mailbox_full"],
  systemerror: ["server_error", "temporary"],
  mailererror: ["server_error"],
  syntaxerror: ["server_error", "policy"],
  feedback: ["complaint"],
};

type Columns = { messages: number; recognised: number; recipient: number; status: number; reason: number };
const COLUMNS = ["messages", "recognised", "recipient", "status", "reason"] as const;
/** Columns that are right for one message; undefined where nothing is expected. */
type Verdict = Record<Exclude<keyof Columns, "messages">, boolean>;

function findMessages(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((name) => join(folder, name))
    .filter((path) => statSync(path).isFile() && /\.(eml|msg|txt)$/.test(path))
    .toSorted();
}

/** The same message under two roots: its name and its folder's. */
const keyOf = (path: string) => `${basename(dirname(path))}/${basename(path)}`;

function readExpected(file: string): Map<string, Expected[]> {
  const found = new Map<string, Expected[]>();
  for (const line of readFileSync(file, "utf8").split("\n").filter(Boolean)) {
    const one = v.parse(Expected, JSON.parse(line));
    found.set(keyOf(one.origin), [...(found.get(keyOf(one.origin)) ?? []), one]);
  }
  return found;
}

const reportsOf = ({ bounce, delay }: ParsedMessage): Report[] => [
  ...(bounce?.recipients ?? []),
  ...(delay?.recipients ?? []),
];

function judgeAlone(parsed: ParsedMessage): Verdict {
  const reports = reportsOf(parsed);
  const all = (holds: (report: Report) => boolean) => reports.length > 0 && reports.every(holds);
  return {
    recognised: reports.length > 0,
    recipient: all(({ recipient }) => recipient !== null),
    status: all(({ status }) => status !== null),
    reason: all(({ reason }) => reason !== null && reason !== "unknown"),
  };
}

/** Reports that mark nobody: out-of-office replies, and feedback other than abuse. */
const isNothing = ({ reason, feedbacktype }: Expected) =>
  reason === "vacation" || (reason === "feedback" && feedbacktype !== "abuse");
const isDelivered = ({ reason }: Expected) => reason === "delivered";

/** Sisimai calls every expired message delayed, and delays that it finds a reason for failed: only what arrived is told apart. */
function isRecognised({ bounce, delay }: ParsedMessage, one: Expected): boolean {
  return isDelivered(one) ? bounce === null && delay !== null : bounce !== null || delay !== null;
}

function judge(parsed: ParsedMessage, all: Expected[]): Verdict {
  const expected = all.filter((one) => !isNothing(one));
  const reports = reportsOf(parsed);
  if (expected.length === 0) {
    const none = parsed.bounce === null;
    return { recognised: none, recipient: none, status: none, reason: none };
  }
  const pairs = expected.map((one, index) => ({ one, report: findReport(reports, one) ?? reports[index] }));
  return {
    recognised: expected.every((one) => isRecognised(parsed, one)),
    recipient: expected.every((one) => findReport(reports, one)),
    status: pairs.every(({ one, report }) => report && agreesStatus(one.deliverystatus, report.status)),
    reason: pairs.every(({ one, report }) => report && agreesReason(one, report)),
  };
}

function findReport(reports: Report[], { recipient, alias }: Expected): Report | undefined {
  const names = [recipient, alias].filter(Boolean).map((name) => name.toLowerCase());
  return reports.find((report) => names.includes((report.recipient ?? "").toLowerCase()));
}

// Codes such as 5.0.910 are sisimai's own, for messages without one: then only the class counts.
function agreesStatus(expected: string, status: string | null): boolean {
  if (expected === "") return true;
  if (/\.0\.9\d\d$/.test(expected)) return status === null || status.charAt(0) === expected.charAt(0);
  return status === expected;
}

function agreesReason(one: Expected, { reason }: Report): boolean {
  if (isDelivered(one)) return true;
  const names = REASONS[one.reason];
  return names === undefined || (reason !== null && names.includes(reason));
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { expected: { type: "string" }, list: { type: "boolean" } },
  });
  const [folder] = positionals;
  if (folder === undefined) throw new Error("usage: bun run bounces FOLDER [--expected FILE] [--list]");
  const expected = values.expected === undefined ? undefined : readExpected(values.expected);
  const rows = new Map<string, Columns>();
  for (const path of findMessages(folder)) {
    const wanted = expected?.get(keyOf(path));
    if (expected && !wanted) continue;
    const parsed = await parseMessage(readFileSync(path), { maxAttachmentBytes: 0 });
    const verdict = wanted ? judge(parsed, wanted) : judgeAlone(parsed);
    for (const family of [basename(path).replace(/-?\d*\.[a-z]+$/, ""), "all"]) {
      const row = rows.get(family) ?? { messages: 0, recognised: 0, recipient: 0, status: 0, reason: 0 };
      row.messages++;
      for (const column of COLUMNS.slice(1) as (keyof Verdict)[]) if (verdict[column]) row[column]++;
      rows.set(family, row);
    }
    const wrong = Object.entries(verdict).filter(([, right]) => !right);
    if (values.list && wrong.length > 0) {
      console.log(`${keyOf(path)}: ${wrong.map(([column]) => column).join(", ")}`);
      for (const one of wanted ?? [])
        console.log(`  expected ${one.action || "-"} ${one.recipient} ${one.deliverystatus} ${one.reason}`);
      for (const one of reportsOf(parsed))
        console.log(
          `  read     ${one.action} ${one.recipient} ${one.status} ${one.reason}: ${one.diagnostic?.slice(0, 160)}`,
        );
    }
  }
  printTable(rows);
}

function printTable(rows: Map<string, Columns>): void {
  const sorted = [...rows].toSorted(([a], [b]) => (a === "all" ? 1 : b === "all" ? -1 : a.localeCompare(b)));
  console.log(["", ...COLUMNS].map((name, at) => (at === 0 ? name.padEnd(24) : name.padStart(12))).join(""));
  for (const [family, row] of sorted)
    console.log([family.padEnd(24), ...COLUMNS.map((column) => String(row[column]).padStart(12))].join(""));
  const all = rows.get("all");
  if (all) {
    const share = (column: keyof Columns) => `${((100 * all[column]) / all.messages).toFixed(1)} %`;
    console.log(["".padEnd(24), ...COLUMNS.map((column) => share(column).padStart(12))].join(""));
  }
}

await main();
