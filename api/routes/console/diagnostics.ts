/** /diagnostics and /upcoming: checks by a click, and what they found. */
import * as v from "valibot";
import { clock } from "../../../shared/time.ts";
import { CheckReport, type CheckResult } from "../../checks/check.ts";
import { Expiry } from "../../checks/upcoming.ts";
import type { Route } from "../../http/route.ts";
import { diagnosticsBody } from "../../pages/console/diagnostics.ts";
import { upcomingBody } from "../../pages/console/upcoming.ts";
import { action, type ConsoleCall, type ConsoleDeps, page } from "./page.ts";

const CHECKS_PATH = "/api/v1/diagnostics/checks";
const REPORT_NAME = "email-listener-diagnostics.json";

export function diagnosticPageRoutes(deps: ConsoleDeps): Route[] {
  return [
    page(deps, "/diagnostics", async (call) => renderChecks(call, await lastReport(call), call.query)),
    action(deps, "/diagnostics", runChecks),
    page(deps, "/upcoming", async (call) => renderUpcoming(call, await lastReport(call))),
    action(deps, "/upcoming", async (call) => renderUpcoming(call, await runReport(call, { checks: ["expiry"] }))),
  ];
}

/** What the checks found last on this node. Undefined for a caller who may not see it. */
async function lastReport(call: ConsoleCall): Promise<CheckReport | undefined> {
  if (!call.may("admin")) return undefined;
  return v.parse(CheckReport, await (await call.api("GET", CHECKS_PATH)).json());
}

async function runReport(call: ConsoleCall, body: object): Promise<CheckReport> {
  return v.parse(CheckReport, await (await call.api("POST", CHECKS_PATH, body)).json());
}

/** The page is the answer, because another node may answer the next request, and it has not run these checks. */
async function runChecks(call: ConsoleCall): Promise<Response> {
  const { form } = call;
  const [check, address, mailbox] = [form.get("check"), form.get("address")?.trim(), await mailboxIdOf(call)];
  const ran = await runReport(call, {
    ...(check && { checks: [check] }),
    ...(mailbox && { mailbox }),
    ...(address && { address }),
    ...(!check && form.get("testMail") === "1" && { testMail: true }),
  });
  if (form.has("download")) return download(ran);
  const last = await lastReport(call);
  const fresh = new Map(ran.checks.map((one) => [one.name, one]));
  const checks = (last ?? ran).checks.map((one) => fresh.get(one.name) ?? one);
  return renderChecks(call, { ...ran, checks }, form);
}

/** The id of the mailbox that the person typed, by its id or its address. */
async function mailboxIdOf({ form, deps }: ConsoleCall): Promise<string> {
  const typed = form.get("mailbox")?.trim() ?? "";
  if (!typed.includes("@")) return typed;
  const { items } = await deps.store.mailboxes.list({ address: typed, limit: 1 });
  return items[0]?.mailbox.id ?? typed;
}

function download(report: CheckReport): Response {
  const at = new Date(clock.now()).toISOString();
  return new Response(JSON.stringify({ at, ...report }, null, 2), {
    headers: {
      "content-type": "application/json",
      "content-disposition": `attachment; filename="${REPORT_NAME}"`,
      "cache-control": "no-store",
    },
  });
}

function renderChecks(call: ConsoleCall, report: CheckReport | undefined, typed: URLSearchParams): Promise<Response> {
  const [mailbox, address] = [typed.get("mailbox") ?? "", typed.get("address") ?? ""];
  return call.render({ title: "Diagnostics", body: diagnosticsBody({ base: call.base, report, mailbox, address }) });
}

function renderUpcoming(call: ConsoleCall, report: CheckReport | undefined): Promise<Response> {
  const check = report?.checks.find(({ name }) => name === "expiry");
  const [soon, later] = [listOf(check, "items"), listOf(check, "later")];
  return call.render({ title: "Upcoming", body: upcomingBody({ base: call.base, check, soon, later }) });
}

function listOf(check: CheckResult | undefined, member: string): Expiry[] {
  return v.parse(v.array(Expiry), check?.data?.[member] ?? []);
}
