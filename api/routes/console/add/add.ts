/** /mailboxes/add: finds the servers of an address, tests the mailbox, and registers it, by calls of the API. */
import * as v from "valibot";
import { asProblem } from "../../../../shared/contract/problem.ts";
import { Discovered } from "../../../../shared/mail/discovery/proposal.ts";
import { publicBase } from "../../../consent/links.ts";
import type { Route } from "../../../http/route.ts";
import { consentBody, findBody, proposalBody } from "../../../pages/console/add/find.ts";
import { addedBody, type AddedView, foldersBody } from "../../../pages/console/add/finish.ts";
import { addBody, type AddFields, type AddView } from "../../../pages/console/add/form.ts";
import { readProofs, showMailbox } from "../../../pages/console/shown-mailbox.ts";
import { PreflightReportView } from "../../mailbox-actions.ts";
import { getMailbox } from "../../mailboxes.ts";
import { showDeliveries } from "../paused.ts";
import { action, type ConsoleCall, type ConsoleDeps, page } from "../page.ts";
import { fieldsOf, openDraft, sealDraft, toMailbox } from "./draft.ts";

const TITLE = "Add a mailbox";

export function addRoutes(deps: ConsoleDeps): Route[] {
  return [
    page(deps, "/mailboxes/add", (call) => (call.query.get("by") === "hand" ? renderForm(call, {}) : renderFind(call))),
    action(deps, "/mailboxes/add", act),
    page(deps, "/mailboxes/{id}/added", comeBack),
    action(deps, "/mailboxes/{id}/added", (call) => (call.form.get("do") === "ping" ? ping(call) : register(call))),
  ];
}

const STEPS: Record<string, (call: ConsoleCall) => Promise<Response>> = { find, test, consent };

async function act(call: ConsoleCall): Promise<Response> {
  const step = STEPS[call.form.get("do") ?? ""] ?? test;
  return withRefusal(
    () => step(call),
    (refusal) => (step === find ? renderFind(call, refusal) : renderForm(call, { refusal }, 422)),
  );
}

/** Problems of what was typed. The form shows them. */
const EXPLAINED: ReadonlySet<string> = new Set(["invalid", "conflict", "not_found", "unavailable"]);

async function withRefusal(
  work: () => Promise<Response>,
  explain: (refusal: string) => Promise<Response>,
): Promise<Response> {
  try {
    return await work();
  } catch (error) {
    const problem = asProblem(error);
    if (!EXPLAINED.has(problem.code)) throw problem;
    return explain(`${problem.message} ${problem.fix}`);
  }
}

async function renderFind(call: ConsoleCall, refusal?: string): Promise<Response> {
  const address = call.form.get("address") ?? "";
  const view = { base: call.base, address, may: call.may("manage") };
  const status = refusal === undefined ? 200 : 422;
  return call.render({ title: TITLE, status, body: findBody({ ...view, ...(refusal !== undefined && { refusal }) }) });
}

async function viewOf(call: ConsoleCall, fields: AddFields): Promise<AddView> {
  const { applications } = call.deps.store;
  const ofMicrosoft = (await applications.list()).filter(({ provider }) => provider === "microsoft");
  return {
    base: call.base,
    fields,
    may: call.may("manage"),
    applications: ofMicrosoft.map(({ id }) => id),
    demoEndpoint: call.deps.demoEndpoint,
  };
}

async function renderForm(call: ConsoleCall, more: Partial<AddView>, status = 200): Promise<Response> {
  const view = await viewOf(call, fieldsOf(call));
  return call.render({ title: TITLE, status, body: addBody({ ...view, ...more }) });
}

/** Shows what the API found, with one of the proposals in the form. */
async function find(call: ConsoleCall): Promise<Response> {
  const fields = fieldsOf(call);
  const answer = await call.api("POST", "/api/v1/mailboxes/discover", { address: fields.address });
  const discovered = v.parse(Discovered, await answer.json());
  const choice = Number(call.form.get("choice") ?? 0);
  const filled = { ...fields, ...fieldsFrom(discovered.proposals[choice]) };
  const view = { ...(await viewOf(call, filled)), discovered, choice };
  return call.render({ title: TITLE, body: proposalBody(view) });
}

function fieldsFrom(proposal: Discovered["proposals"][number] | undefined): Partial<AddFields> {
  if (!proposal) return {};
  const { receive, send, user, origin, notes } = proposal;
  const server = "host" in receive ? { host: receive.host, port: String(receive.port), tls: receive.tls } : {};
  const sending = send ? { sendHost: send.host, sendPort: String(send.port), sendTls: send.tls } : {};
  return { protocol: receive.protocol, ...server, ...sending, user, origin, notes: notes.join(" ") };
}

/** Tests what was typed. If every step passed, the folders are next. */
async function test(call: ConsoleCall): Promise<Response> {
  const { fields, body } = typed(call);
  const answer = await call.api("POST", "/api/v1/mailboxes/validate?folders=true", body);
  const { folders = [], ...report } = v.parse(PreflightReportView, await answer.json());
  if (!report.ok) return renderForm(call, { report });
  const { id, address } = fields;
  const view = { base: call.base, id, address, report, folders, draft: sealDraft(call, body) };
  return call.render({ title: TITLE, body: foldersBody(view) });
}

function typed(call: ConsoleCall) {
  const fields = fieldsOf(call);
  return { fields, body: toMailbox(fields, call.form) };
}

const Link = v.object({ url: v.string(), secret: v.optional(v.string()) });

/** Makes the link to the consent page. Its owner comes back to the page that waits for the first mail. */
async function consent(call: ConsoleCall): Promise<Response> {
  const { id, address, url, application } = fieldsOf(call);
  const returnUrl = `${publicBase(call.deps.config)}/mailboxes/${encodeURIComponent(id)}/added`;
  const wanted = { application, address, mailbox: { id, deliver: { url } }, returnUrl };
  const answer = await call.api("POST", "/api/v1/consents", wanted);
  const link = v.parse(Link, await answer.json());
  return call.render({ title: TITLE, body: consentBody({ url: link.url, secret: link.secret, address }) });
}

const Registered = v.object({ id: v.string(), deliver: v.object({ secret: v.optional(v.string()) }) });

/** Registers a draft with its folders, or what was typed without a test. */
async function register(call: ConsoleCall): Promise<Response> {
  return withRefusal(
    async () => {
      const draft = call.form.get("draft");
      const body = draft === null ? typed(call).body : withChoices(openDraft(call, draft), call.form);
      const answer = await call.api("POST", "/api/v1/mailboxes", body);
      const { id, deliver } = v.parse(Registered, await answer.json());
      return renderAdded(call, id, { secret: deliver.secret });
    },
    (refusal) => (call.form.has("draft") ? renderFind(call, refusal) : renderForm(call, { refusal }, 422)),
  );
}

function withChoices(body: Record<string, unknown>, form: URLSearchParams): Record<string, unknown> {
  const since = form.get("since") ?? "";
  const folders = form.get("all") === "on" ? "all" : form.getAll("folder");
  const receive = {
    ...(body["receive"] as object),
    ...(folders.length > 0 && { folders }),
    ...(since !== "" && { since }),
  };
  return { ...body, receive };
}

const EndpointTested = v.object({
  ok: v.boolean(),
  status: v.nullable(v.number()),
  ms: v.number(),
  reason: v.nullable(v.string()),
});

/** Posts a test message to the endpoint of the mailbox. */
async function ping(call: ConsoleCall): Promise<Response> {
  const { mailbox } = await getMailbox(call.deps.store, call.id);
  const wanted = { url: mailbox.deliver.url, mailbox: mailbox.id };
  const answer = await call.api("POST", "/api/v1/endpoints/test", wanted);
  return renderAdded(call, mailbox.id, { endpointTest: v.parse(EndpointTested, await answer.json()) });
}

/** From the page of a consent, or by a look again. A consent that was refused registered nothing. */
async function comeBack(call: ConsoleCall): Promise<Response> {
  if (call.query.get("result") !== "refused") return renderAdded(call, call.id);
  return renderFind(call, "The mailbox was not connected. The page before this one said why.");
}

/** The page that waits for the first mail. It renews itself, and keeps the secret that only the registration shows. */
async function renderAdded(call: ConsoleCall, id: string, more: Partial<AddedView> = {}): Promise<Response> {
  const { store } = call.deps;
  const [item, deliveries] = await Promise.all([
    getMailbox(store, id),
    store.deliveries.list({ mailbox: id, limit: 1 }),
  ]);
  const [newest] = await showDeliveries(call.deps, deliveries.items);
  const view = { base: call.base, item: showMailbox(item, await readProofs(call.deps)), newest };
  return call.render({ title: TITLE, isLive: true, body: addedBody({ ...view, may: call.may("manage"), ...more }) });
}
