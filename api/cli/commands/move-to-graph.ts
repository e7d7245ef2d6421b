/** `cli mailbox move-to-graph`: moves mailboxes in Exchange Online from Exchange Web Services to Microsoft Graph. */
import { Problem } from "../../../shared/contract/problem.ts";
import { callService, type Json, type Service } from "../service.ts";
import { formatTable } from "../table.ts";
import { type Call, type Command, itemsOf, type Output, textOf } from "./command.ts";

/** As long as the service takes to try one mailbox at most. */
const MOVE_MS = 360_000;
const PAGE = 200;

export const moveCommands: Record<string, Command> = {
  "mailbox move-to-graph": {
    usage: "mailbox move-to-graph <id>|--all --application <id> [--dry-run] | mailbox move-to-graph <id> --back",
    summary:
      "Moves a mailbox, or all that are received by Exchange Web Services, to Microsoft Graph. Nothing is lost or delivered twice. --dry-run only says what would happen. --back goes back while Graph has delivered nothing.",
    example: "mailbox move-to-graph help-desk --application contoso --dry-run",
    args: [0, 1],
    options: {
      all: { type: "boolean" },
      application: { type: "string" },
      "dry-run": { type: "boolean" },
      back: { type: "boolean" },
    },
    run: move,
  },
};

async function move({ service, args: [id], values, print }: Call): Promise<Output> {
  if ((id === undefined) === (values["all"] !== true))
    throw new Problem("config", "Name one mailbox, or give --all", { retry: "never", fix: "" });
  const application = textOf(values, "application");
  const body = {
    ...(application !== undefined && { application }),
    dryRun: values["dry-run"] === true,
    back: values["back"] === true,
  };
  const ids = id === undefined ? await listExchange(service) : [id];
  const reports: Json[] = [];
  for (const one of ids) {
    const report = await moveOne(service, one, body);
    reports.push({ mailbox: one, ...report });
    if (ids.length > 1 && values["json"] !== true) print(`${one} ${outcomeOf(report)}`);
  }
  const [only] = reports;
  const moved = reports.filter((report) => report["moved"] === true).length;
  const text = ids.length === 1 && only ? formatReport(only) : `${moved} of ${ids.length} mailboxes moved`;
  return { json: reports, text, failed: reports.some((report) => report["ok"] !== true) };
}

/** With many mailboxes one that is refused stops no other. */
async function moveOne(service: Service, id: string, body: object): Promise<Json> {
  try {
    return await callService(service, "POST", `/mailboxes/${encodeURIComponent(id)}/move-to-graph`, {
      body,
      waitMs: MOVE_MS,
    });
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    const step = { name: "request", ok: false, ms: 0, cause: error.message, fix: error.fix };
    return { ok: false, moved: false, steps: [step] };
  }
}

async function listExchange(service: Service): Promise<string[]> {
  const ids: string[] = [];
  for (let cursor = ""; ;) {
    const page = await callService(service, "GET", `/mailboxes?limit=${PAGE}${cursor}`);
    for (const { id, receive } of itemsOf(page))
      if ((receive as Json | undefined)?.["protocol"] === "ews") ids.push(String(id));
    const { next } = page;
    if (typeof next !== "string") return ids;
    cursor = `&cursor=${encodeURIComponent(next)}`;
  }
}

const stepsOf = ({ steps }: Json): Json[] => (Array.isArray(steps) ? (steps as Json[]) : []);

function outcomeOf(report: Json): string {
  if (report["moved"] === true) return "moved";
  const failed = stepsOf(report).find(({ ok }) => ok !== true);
  return failed ? `stays: ${String(failed["cause"])}` : "can move";
}

function formatReport(report: Json): string {
  const rows = stepsOf(report).map(({ name, ok, detail, cause }) => [
    ok === true ? "ok" : "FAILED",
    name,
    cause ?? detail,
  ]);
  const fixes = stepsOf(report).flatMap(({ name, ok, fix }) => (ok === true || !fix ? [] : [`${name}: ${fix}`]));
  return [
    formatTable(["", "STEP", "DETAIL"], rows),
    ...fixes,
    `${String(report["mailbox"])} ${outcomeOf(report)}`,
  ].join("\n");
}
