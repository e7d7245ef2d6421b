/** /alarms: what is wrong now and who is told, with a button for a test. */
import * as v from "valibot";
import { AlarmsView, TestReport } from "../../alarms/views.ts";
import type { Route } from "../../http/route.ts";
import { alarmsBody } from "../../pages/console/alarms.ts";
import { action, type ConsoleCall, type ConsoleDeps, page } from "./page.ts";

const PATH = "/api/v1/alarms";

export function alarmPageRoutes(deps: ConsoleDeps): Route[] {
  return [
    page(deps, "/alarms", async (call) => render(call, await readAlarms(call))),
    action(deps, "/alarms", async (call) => {
      const tested = v.parse(TestReport, await (await call.api("POST", `${PATH}/test`)).json());
      return render(call, await readAlarms(call), tested);
    }),
  ];
}

async function readAlarms(call: ConsoleCall): Promise<AlarmsView | undefined> {
  if (!call.may("admin")) return undefined;
  return v.parse(AlarmsView, await (await call.api("GET", PATH)).json());
}

function render(call: ConsoleCall, view: AlarmsView | undefined, tested?: TestReport): Promise<Response> {
  return call.render({ title: "Alarms", body: alarmsBody(call.base, view, tested) });
}
