/** /bulk: one action over all mailboxes or deliveries of a filter, with the count before it begins and its progress. */
import * as v from "valibot";
import { clock } from "../../../../shared/time.ts";
import { BulkView } from "../../../bulk/routes.ts";
import type { Route } from "../../../http/route.ts";
import { bulkBody, bulkListBody, bulkQuestionBody } from "../../../pages/console/actions/bulk.ts";
import { action, type ConsoleCall, type ConsoleDeps, page, seeOther } from "../page.ts";

const API = "/api/v1/bulk";
const Count = v.object({ total: v.number() });
const Jobs = v.object({ items: v.array(BulkView) });
const FILTERS = ["state", "protocol", "host", "q", "mailbox", "reason", "text"];

export function bulkPageRoutes(deps: ConsoleDeps): Route[] {
  return [
    page(deps, "/bulk", async (call) => {
      const { items } = v.parse(Jobs, await (await call.api("GET", API)).json());
      return call.render({ title: "Bulk actions", isLive: true, body: bulkListBody(call.base, items) });
    }),
    page(deps, "/bulk/new", ask),
    action(deps, "/bulk", begin),
    page(deps, "/bulk/{id}", async (call) => {
      const job = v.parse(BulkView, await (await call.api("GET", pathOf(call))).json());
      return call.render({
        title: "Bulk action",
        isLive: true,
        body: bulkBody(call.base, job, call.may("manage")),
      });
    }),
    action(deps, "/bulk/{id}/stop", async (call) => {
      await call.api("POST", `${pathOf(call)}/stop`);
      return seeOther(`${call.base}/bulk/${encodeURIComponent(call.id)}`);
    }),
  ];
}

const pathOf = ({ id }: ConsoleCall) => `${API}/${encodeURIComponent(id)}`;

/** The order in a query or a form, for the API to check. A field that is empty is no filter. */
function readOrder(given: URLSearchParams) {
  const chosen = FILTERS.map((name) => [name, (given.get(name) ?? "").trim()] as const);
  const filter = Object.fromEntries(chosen.filter(([, value]) => value !== ""));
  const since = given.get("since");
  return { action: given.get("action"), filter, ...(since !== null && { since }) };
}

async function ask(call: ConsoleCall): Promise<Response> {
  const order = readOrder(call.query);
  const today = new Date(clock.now()).toISOString().slice(0, 10);
  const counted = order.action === "resync" ? { since: today, ...order } : order;
  const { total } = v.parse(Count, await (await call.api("POST", `${API}/count`, counted)).json());
  const known = v.parse(BulkView.entries.action, order.action);
  const body = bulkQuestionBody({ base: call.base, action: known, filter: order.filter, total, today });
  return call.render({ title: "Bulk action", body });
}

async function begin(call: ConsoleCall): Promise<Response> {
  const { id } = v.parse(BulkView, await (await call.api("POST", API, readOrder(call.form))).json());
  return seeOther(`${call.base}/bulk/${encodeURIComponent(id)}`);
}
