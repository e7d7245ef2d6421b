/** `cli deliveries ...` and `cli parked ...`: what was delivered, what was given up, and another attempt. */
import { callService, type Json } from "../service.ts";
import { formatTable } from "../table.ts";
import { type Call, type Command, formatPage, type Output, PAGE_OPTIONS, queryOf, textOf } from "./command.ts";

export const deliveryCommands: Record<string, Command> = {
  "deliveries ls": {
    usage:
      "deliveries ls [--text <text>] [--state retrying|parked|delivered] [--mailbox <id>] [--limit <n>] [--cursor <cursor>]",
    summary: "Lists deliveries, newest first; with --text those with this subject, sender or Message-ID.",
    example: "deliveries ls --text invoice",
    args: [0, 0],
    options: { text: { type: "string" }, state: { type: "string" }, mailbox: { type: "string" }, ...PAGE_OPTIONS },
    async run({ service, values }) {
      const query = queryOf(values, ["text", "state", "mailbox", "limit", "cursor"]);
      const answer = await callService(service, "GET", `/deliveries${query}`);
      const names = ["ID", "MAILBOX", "STATE", "ATTEMPTS", "UPDATED", "NEXT ATTEMPT", "FROM", "SUBJECT", "REASON"];
      return { json: answer, text: formatPage(answer, names, toDeliveryRow) };
    },
  },
  "deliveries show": {
    usage: "deliveries show <id>",
    summary: "Shows a delivery with each of its attempts.",
    example: "deliveries show msg_0123",
    args: [1, 1],
    run: showDelivery,
  },
  "deliveries replay": {
    usage: "deliveries replay <id> | --since <date> [--mailbox <id>] [--state parked|delivered|retrying]",
    summary: "Delivers one delivery again, or all of a state (parked, if none is given) since a date.",
    example: "deliveries replay --since 2026-11-01 --mailbox help-desk",
    args: [0, 1],
    options: { since: { type: "string" }, mailbox: { type: "string" }, state: { type: "string" } },
    async run({ service, args: [id], values: { since, mailbox, state } }) {
      if (id !== undefined) {
        const answer = await callService(service, "POST", `/deliveries/${encodeURIComponent(id)}/replay`);
        return { json: answer, text: `${id} is in the queue` };
      }
      const answer = await callService(service, "POST", "/deliveries/replay", { body: { since, mailbox, state } });
      return { json: answer, text: `${String(answer["replayed"])} deliveries are in the queue` };
    },
  },
  "parked ls": {
    usage: "parked ls [--mailbox <id>] [--limit <n>] [--cursor <cursor>]",
    summary: "Lists everything that was given up, with the reasons.",
    example: "parked ls",
    args: [0, 0],
    options: { mailbox: { type: "string" }, ...PAGE_OPTIONS },
    async run({ service, values }) {
      const answer = await callService(service, "GET", `/parked${queryOf(values, ["mailbox", "limit", "cursor"])}`);
      const names = ["ID", "MAILBOX", "WHAT", "MESSAGES", "SINCE", "REASON"];
      return { json: answer, text: formatPage(answer, names, toParkedRow) };
    },
  },
  "parked replay": {
    usage: "parked replay [<id> ...] [--mailbox <id>]",
    summary: "Replays what was given up: these ids, or all of a mailbox, or everything.",
    example: "parked replay --mailbox help-desk",
    args: [0, Number.POSITIVE_INFINITY],
    options: { mailbox: { type: "string" } },
    async run({ service, args, values }) {
      const body = { ...(args.length > 0 && { ids: args }), mailbox: textOf(values, "mailbox") };
      const answer = await callService(service, "POST", "/parked/replay", { body });
      return { json: answer, text: `${String(answer["replayed"])} are in the queue` };
    },
  },
  "parked drop": {
    usage: "parked drop <id> [<id> ...]",
    summary: "Deletes parked tasks. Their messages are not delivered, unless somebody resyncs the mailbox.",
    example: "parked drop 0123",
    args: [1, Number.POSITIVE_INFINITY],
    async run({ service, args }) {
      const answer = await callService(service, "POST", "/tasks/parked/drop", { body: { ids: args } });
      return { json: answer, text: `${String(answer["dropped"])} are deleted` };
    },
  },
};

async function showDelivery({ service, args: [id = ""] }: Call): Promise<Output> {
  const answer = await callService(service, "GET", `/deliveries/${encodeURIComponent(id)}`);
  const { attempts, ...rest } = answer;
  const facts = Object.entries({ ...rest, ...messageOf(rest) }).flatMap(([name, value]) =>
    value === null || typeof value === "object" ? [] : [`${name.padEnd(16)}${String(value)}`],
  );
  const rows = (Array.isArray(attempts) ? (attempts as Json[]) : []).map(({ at, ms, status, problem }) => [
    at,
    `${String(ms)} ms`,
    status,
    problem,
  ]);
  const table = rows.length > 0 ? ["", formatTable(["ATTEMPT AT", "TIME", "ANSWER", "PROBLEM"], rows)] : [];
  return { json: answer, text: [...facts, ...table].join("\n") };
}

function toDeliveryRow({
  id,
  mailbox,
  state,
  attemptCount,
  updatedAt,
  nextAttemptAt,
  reason,
  ...more
}: Json): unknown[] {
  const { from, subject } = messageOf(more);
  return [id, mailbox, state, attemptCount, updatedAt, nextAttemptAt, from, subject, reason];
}

function messageOf({ message }: Json): Json {
  return typeof message === "object" && message !== null ? (message as Json) : {};
}

function toParkedRow({ id, mailbox, what, messages, parkedAt, reason }: Json): unknown[] {
  return [id, mailbox, what, messages, parkedAt, reason];
}
