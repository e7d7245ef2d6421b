/** /endpoints/one: one endpoint, and what its buttons do by calls of the API. */
import * as v from "valibot";
import { endpointOf } from "../../../../shared/contract/endpoint.ts";
import { RotationView, TestReport } from "../../../endpoints/routes.ts";
import { notFound } from "../../../http/problems.ts";
import type { Route } from "../../../http/route.ts";
import { endpointBody, rotationBody, testReportBody } from "../../../pages/console/actions/endpoint.ts";
import { queryOf } from "../../../pages/console/parts.ts";
import { withPauses } from "../../../endpoints/overview.ts";
import type { EndpointsOf } from "../endpoints.ts";
import { action, type ConsoleCall, type ConsoleDeps, page, seeOther } from "../page.ts";

const API = "/api/v1/endpoints";
const Resumed = v.object({ waiting: v.number() });

export function endpointActionRoutes(deps: ConsoleDeps, endpointsOf: EndpointsOf): Route[] {
  return [
    page(deps, "/endpoints/one", async (call) => {
      const url = endpointOf(call.query.get("url") ?? "");
      const { value } = await endpointsOf(call.deps);
      const row = withPauses(value.rows, await call.deps.listPauses()).find((one) => one.url === url);
      if (!row) throw notFound("endpoint", url);
      const { mailboxPrefix: prefix } = call.actor;
      const view = { base: call.base, query: call.query, row, prefix, mayManage: call.may("manage") };
      return call.render({ title: "Endpoint", isLive: true, body: endpointBody(view) });
    }),
    action(deps, "/endpoints/pause", async (call) => {
      await post(call, "pause");
      return backTo(call, "hold");
    }),
    action(deps, "/endpoints/resume", async (call) => {
      const { waiting } = v.parse(Resumed, await (await post(call, "resume")).json());
      if (call.form.get("back") === "now")
        return seeOther(`${call.base}/${queryOf({ done: "release", n: String(waiting) })}`);
      return backTo(call, "release", waiting);
    }),
    action(deps, "/endpoints/test", async (call) => {
      const report = v.parse(TestReport, await (await post(call, "test")).json());
      return call.render({ title: "Test message", body: testReportBody(call.base, urlOf(call), report) });
    }),
    action(deps, "/endpoints/rotate", async (call) => {
      const overlapHours = Number(call.form.get("overlapHours"));
      const rotation = v.parse(RotationView, await (await post(call, "rotate-secret", { overlapHours })).json());
      return call.render({ title: "New secret", body: rotationBody(call.base, urlOf(call), rotation) });
    }),
  ];
}

const urlOf = ({ form }: ConsoleCall) => form.get("url") ?? "";

function post(call: ConsoleCall, what: string, more: object = {}): Promise<Response> {
  return call.api("POST", `${API}/${what}`, { url: urlOf(call), ...more });
}

function backTo(call: ConsoleCall, done: string, count = 1): Response {
  return seeOther(`${call.base}/endpoints/one${queryOf({ url: urlOf(call), done, n: String(count) })}`);
}
