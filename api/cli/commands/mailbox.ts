/** `cli mailbox ...`: registers mailboxes, shows them and acts on them. */
import { runChecks } from "./doctor.ts";
import { callService, type Json } from "../service.ts";
import { formatFields, formatTable } from "../table.ts";
import {
  type Call,
  type Command,
  formatPage,
  itemsOf,
  type Output,
  PAGE_OPTIONS,
  queryOf,
  readJsonFile,
} from "./command.ts";
import { importCommand } from "./import.ts";

const pathOf = (id = "") => `/mailboxes/${encodeURIComponent(id)}`;
const recordOf = (value: unknown): Json => (typeof value === "object" && value !== null ? { ...value } : {});

export const mailboxCommands: Record<string, Command> = {
  "mailbox ls": {
    usage: "mailbox ls [--status <status>] [--address <address>] [--limit <n>] [--cursor <cursor>]",
    summary: "Lists the mailboxes with their states.",
    example: "mailbox ls --status needs_attention",
    args: [0, 0],
    options: { status: { type: "string" }, address: { type: "string" }, ...PAGE_OPTIONS },
    async run({ service, values }) {
      const query = queryOf(values, ["status", "address", "limit", "cursor"]);
      const answer = await callService(service, "GET", `/mailboxes${query}`);
      return { json: answer, text: formatPage(answer, ["ID", "ADDRESS", "STATUS", "SINCE", "PROBLEM"], toRow) };
    },
  },
  "mailbox show": {
    usage: "mailbox show <id>",
    summary: "Shows a mailbox: its state, its settings without secrets, and what happened last.",
    example: "mailbox show help-desk",
    args: [1, 1],
    async run({ service, args: [id] }) {
      const mailbox = await callService(service, "GET", pathOf(id));
      const events = itemsOf(await callService(service, "GET", `${pathOf(id)}/events?limit=10`));
      return { json: { ...mailbox, events }, text: formatMailbox(mailbox, events) };
    },
  },
  "mailbox add": {
    usage: "mailbox add <file>",
    summary:
      "Registers the mailbox that a JSON file describes, as POST /api/v1/mailboxes takes it. - is the standard input.",
    example: "mailbox add help-desk.json",
    args: [1, 1],
    async run({ service, args: [file = ""] }) {
      const answer = await callService(service, "POST", "/mailboxes", { body: await readJsonFile(file) });
      const secret = recordOf(answer["deliver"])["secret"];
      const shown = typeof secret === "string" ? `\nIts webhooks are signed with ${secret}. It is shown only now.` : "";
      return { json: answer, text: `${String(answer["id"])} is registered${shown}` };
    },
  },
  "mailbox import": importCommand,
  "mailbox discover": {
    usage: "mailbox discover <address>",
    summary: "Finds the mail servers of an address, without a password.",
    example: "mailbox discover help@example.com",
    args: [1, 1],
    async run({ service, args: [address] }) {
      const answer = await callService(service, "POST", "/mailboxes/discover", { body: { address } });
      return { json: answer, text: formatDiscovered(answer), failed: listOf(answer["proposals"]).length === 0 };
    },
  },
  "mailbox test": {
    usage: "mailbox test <id> [--mail] | <file>",
    summary:
      "Tries a registered mailbox step by step; --mail also sends it a mail and waits for it. Or tries the mailbox that a JSON file describes, and registers nothing: a name with a slash or .json, or - for the standard input.",
    example: "mailbox test help-desk --mail",
    args: [1, 1],
    options: { mail: { type: "boolean" } },
    run: (call) => (isFile(call.args[0] ?? "") ? testDescribed(call) : testRegistered(call)),
  },
  "mailbox connect": {
    usage: "mailbox connect <file>",
    summary:
      "Makes a link by which a person connects a mailbox, for what a JSON file describes, as POST /api/v1/consents takes it.",
    example: "mailbox connect help-desk.json",
    args: [1, 1],
    async run({ service, args: [file = ""] }) {
      const answer = await callService(service, "POST", "/consents", { body: await readJsonFile(file) });
      const { url, expiresAt, mailbox, secret } = answer;
      const signed =
        typeof secret === "string" ? `\nIts webhooks will be signed with ${secret}. It is shown only now.` : "";
      const text = `${String(url)}\nconnects ${String(mailbox)}. It is valid once, until ${String(expiresAt)}${signed}`;
      return { json: answer, text };
    },
  },
  "mailbox pause": actionCommand("pause", "Ends the subscription of a mailbox.", "is paused"),
  "mailbox resume": actionCommand("resume", "Starts the subscription of a mailbox again.", "listens again"),
  "mailbox confirm": actionCommand("confirm", "Delivers what a mailbox asks about.", "delivers what it asked about"),
  "mailbox resync": {
    usage: "mailbox resync <id> --since <date> [--redeliver]",
    summary: "Hands over again what was received since a date. Without --redeliver nothing is delivered twice.",
    example: "mailbox resync help-desk --since 2026-11-01",
    args: [1, 1],
    options: { since: { type: "string" }, redeliver: { type: "boolean" } },
    async run({ service, args: [id], values: { since, redeliver = false } }) {
      const answer = await callService(service, "POST", `${pathOf(id)}/resync`, {
        body: { since, redeliver },
        waitMs: RESYNC_MS,
      });
      return { json: answer, text: `${String(answer["messages"])} messages are in the queue` };
    },
  },
  "mailbox folders": {
    usage: "mailbox folders <id>",
    summary: "Lists the folders on the mail server.",
    example: "mailbox folders help-desk",
    args: [1, 1],
    async run({ service, args: [id] }) {
      const answer = await callService(service, "GET", `${pathOf(id)}/folders`);
      const text = formatPage(answer, ["PATH", "USE"], ({ path, specialUse }) => [path, specialUse]);
      return { json: answer, text };
    },
  },
  "mailbox rm": {
    usage: "mailbox rm <id>",
    summary: "Removes a mailbox with its deliveries. Nothing changes on the mail server.",
    example: "mailbox rm help-desk",
    args: [1, 1],
    async run({ service, args: [id] }) {
      return { json: await callService(service, "DELETE", pathOf(id)), text: `${id} is removed` };
    },
  },
};

/** As long as the service takes for a resync at most. */
const RESYNC_MS = 600_000;

function actionCommand(action: "pause" | "resume" | "confirm", summary: string, done: string): Command {
  return {
    usage: `mailbox ${action} <id>`,
    summary,
    example: `mailbox ${action} help-desk`,
    args: [1, 1],
    async run({ service, args: [id] }) {
      return { json: await callService(service, "POST", `${pathOf(id)}/${action}`), text: `${id} ${done}` };
    },
  };
}

const listOf = (value: unknown): Json[] => (Array.isArray(value) ? value.map(recordOf) : []);

function formatDiscovered({ steps, proposals }: Json): string {
  const asked = listOf(steps).map(({ name, found, ms, detail }) => [
    found === true ? "found" : "-",
    name,
    `${ms} ms`,
    detail,
  ]);
  const found = listOf(proposals).map(({ receive, send, user, logins, notes, origin }) =>
    formatTable(
      ["PROPOSAL", ""],
      [
        ["receive", JSON.stringify(receive)],
        ["send", send === null ? "" : JSON.stringify(send)],
        ["user", user],
        ["login by", Array.isArray(logins) ? logins.join(" or ") : ""],
        ["from", origin],
        ["to do", Array.isArray(notes) ? notes.join(" ") : ""],
      ],
    ),
  );
  return [formatTable(["", "STEP", "TIME", "DETAIL"], asked), ...found].join("\n\n");
}

function isFile(word: string): boolean {
  return word === "-" || word.includes("/") || word.endsWith(".json");
}

function testRegistered({ service, args: [id], values }: Call): Promise<Output> {
  return runChecks(service, { checks: ["mailbox"], mailbox: id, testMail: values["mail"] === true });
}

async function testDescribed({ service, args: [file = ""] }: Call): Promise<Output> {
  const report = await callService(service, "POST", "/mailboxes/validate", { body: await readJsonFile(file) });
  const steps = (Array.isArray(report["steps"]) ? report["steps"] : []) as Json[];
  const rows = steps.map(({ name, ok, ms, detail, cause }) => [
    ok === true ? "ok" : "FAILED",
    name,
    `${ms} ms`,
    cause ?? detail,
  ]);
  const fixes = steps.flatMap(({ name, ok, fix }) => (ok === true || fix === undefined ? [] : [`${name}: ${fix}`]));
  const text = [formatTable(["", "STEP", "TIME", "DETAIL"], rows), ...fixes].join("\n");
  return { json: report, text, failed: report["ok"] !== true };
}

function toRow({ id, address, state }: Json): unknown[] {
  const { status, since, problem } = recordOf(state);
  return [id, address, status, since, recordOf(problem)["cause"]];
}

function formatMailbox({ id, address, state, receive, deliver, connection }: Json, events: Json[]): string {
  const { status, since, node, lastVerifiedAt, lastArrivalAt, problem } = recordOf(state);
  const { cause, fix, evidence, retryAt } = recordOf(problem);
  const { protocol, host, folders } = recordOf(receive);
  const { server, tls, token, connections } = recordOf(connection);
  const rows = [
    ["id", id],
    ["address", address],
    ["status", `${String(status)} since ${String(since)}`],
    ["cause", cause],
    ["fix", fix],
    ["evidence", evidence],
    ["next attempt", retryAt],
    ["receives by", [protocol, host].filter((one) => one !== undefined).join(" from ")],
    ["folders", Array.isArray(folders) ? folders.join(", ") : folders],
    ["delivers to", recordOf(deliver)["url"]],
    ["node", node],
    ["server", server],
    ["certificate ends", recordOf(tls)["certificateEndsAt"]],
    ["token ends", recordOf(token)["endsAt"]],
    ["connections", connections],
    ["last verified", lastVerifiedAt],
    ["last arrival", lastArrivalAt],
  ].filter(([, value]) => value !== undefined && value !== null);
  const width = Math.max(...rows.map(([name]) => String(name).length)) + 2;
  const lines = rows.map(([name, value]) => `${String(name).padEnd(width)}${String(value)}`);
  if (events.length === 0) return lines.join("\n");
  return [...lines, "", formatTable(["AT", "WHAT", "MORE"], events.map(toEventRow))].join("\n");
}

function toEventRow({ at, kind, ...event }: Json): unknown[] {
  const more = Object.entries(event).filter(([name]) => name !== "mailbox");
  return [at, kind, formatFields(more)];
}
