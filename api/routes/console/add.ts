/** /mailboxes/add: one form that tests a mailbox and registers it, by calls of the API. */
import { randomUUID } from "node:crypto";
import * as v from "valibot";
import { asProblem } from "../../../shared/contract/problem.ts";
import type { Route } from "../../http/route.ts";
import { addBody, addedBody, type AddFields, type AddView } from "../../pages/console/add.ts";
import { PreflightReportView } from "../mailbox-actions.ts";
import { action, type ConsoleCall, type ConsoleDeps, page } from "./page.ts";

export function addRoutes(deps: ConsoleDeps): Route[] {
  return [page(deps, "/mailboxes/add", (call) => renderForm(call, {})), action(deps, "/mailboxes/add", add)];
}

/** The form names the mailbox's id, so a form that is sent twice registers one mailbox. */
function fieldsOf({ form, deps }: ConsoleCall): AddFields {
  const read = (name: string) => (form.get(name) ?? "").trim();
  return {
    id: read("id") || deps.mailboxPrefix + randomUUID(),
    address: read("address"),
    name: read("name"),
    protocol: read("protocol"),
    host: read("host"),
    port: read("port"),
    tls: read("tls"),
    user: read("user"),
    tenant: read("tenant"),
    clientId: read("clientId"),
    url: read("url"),
  };
}

function renderForm(call: ConsoleCall, more: Partial<AddView>, status = 200): Promise<Response> {
  const view = { base: call.base, fields: fieldsOf(call), may: call.may("manage"), ...more };
  return call.render({ title: "Add a mailbox", status, body: addBody(view) });
}

async function add(call: ConsoleCall): Promise<Response> {
  const wanted = call.form.get("do");
  try {
    const body = toMailbox(fieldsOf(call), call.form);
    if (wanted !== "anyway") {
      const answer = await call.api("POST", "/api/v1/mailboxes/validate", body);
      const report = v.parse(PreflightReportView, await answer.json());
      if (!report.ok || wanted === "test") return await renderForm(call, { report });
    }
    return await register(call, body);
  } catch (error) {
    const problem = asProblem(error);
    if (!EXPLAINED.has(problem.code)) throw problem;
    return renderForm(call, { refusal: `${problem.message} ${problem.fix}` }, 422);
  }
}

/** Problems of what was typed. The form shows them. */
const EXPLAINED: ReadonlySet<string> = new Set(["invalid", "conflict", "not_found"]);
const Registered = v.object({ id: v.string(), deliver: v.object({ secret: v.optional(v.string()) }) });

async function register(call: ConsoleCall, body: object): Promise<Response> {
  const answer = await call.api("POST", "/api/v1/mailboxes", body);
  const { id, deliver } = v.parse(Registered, await answer.json());
  return call.render({ title: "Add a mailbox", body: addedBody(call.base, id, deliver.secret) });
}

/** The body that the API takes. Fields that are empty are left out, and the API says what is missing. */
function toMailbox(fields: AddFields, form: URLSearchParams): object {
  const { id, address, name, url, protocol } = fields;
  const receive = protocol === "graph" ? graphOf(fields, form) : serverOf(fields, form);
  return { id, address, ...(name !== "" && { name }), receive: { protocol, ...receive }, deliver: { url } };
}

function graphOf({ tenant, clientId }: AddFields, form: URLSearchParams): object {
  return {
    auth: { oauth2: { ...(tenant !== "" && { tenant }), clientId, clientSecret: form.get("clientSecret") ?? "" } },
  };
}

function serverOf({ host, port, tls, user, address }: AddFields, form: URLSearchParams): object {
  return {
    ...(host !== "" && { host }),
    ...(port !== "" && { port: Number(port) }),
    tls,
    auth: { user: user || address, password: form.get("password") ?? "" },
  };
}
