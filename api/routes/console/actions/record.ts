/** /mailboxes/{id}/record: the protocol record of a mailbox, by calls of the API. */
import { clock } from "../../../../shared/time.ts";
import { asProblem } from "../../../../shared/contract/problem.ts";
import type { Route } from "../../../http/route.ts";
import { recordBody } from "../../../pages/console/actions/record.ts";
import { getMailbox } from "../../mailboxes.ts";
import { action, type ConsoleCall, type ConsoleDeps, page, seeOther } from "../page.ts";

export function recordPageRoutes(deps: ConsoleDeps): Route[] {
  return [
    page(deps, "/mailboxes/{id}/record", show),
    page(deps, "/mailboxes/{id}/record/download", (call) => call.api("GET", apiPath(call))),
    action(deps, "/mailboxes/{id}/record", async (call) => {
      await call.api("POST", apiPath(call));
      return back(call);
    }),
    action(deps, "/mailboxes/{id}/record/stop", async (call) => {
      await call.api("POST", `${apiPath(call)}/stop`);
      return back(call);
    }),
  ];
}

const apiPath = ({ id }: ConsoleCall) => `/api/v1/mailboxes/${encodeURIComponent(id)}/record`;
const back = ({ base, id }: ConsoleCall) => seeOther(`${base}/mailboxes/${encodeURIComponent(id)}/record`);

async function show(call: ConsoleCall): Promise<Response> {
  const { mailbox } = await getMailbox(call.deps.store, call.id);
  const record = await readRecord(call);
  const body = recordBody({ base: call.base, mailbox, record, may: call.may("manage") });
  return call.render({ title: `Protocol record of ${mailbox.address}`, isLive: true, body });
}

/** Undefined if there is none. */
async function readRecord(call: ConsoleCall) {
  try {
    const answer = await call.api("GET", apiPath(call));
    const until = answer.headers.get("record-until") ?? "";
    const text = (await answer.text()).split("\n").slice(1).join("\n");
    return { text, until, isOn: Date.parse(until) > clock.now() };
  } catch (error) {
    if (asProblem(error).code === "not_found") return undefined;
    throw error;
  }
}
