/** /api/v1/alarms: what is wrong now, who is told about it, and a test of that. */
import { clock } from "../../shared/time.ts";
import { makeNotice } from "../alarms/book.ts";
import { type ChannelDeps, channelsOf, sendNotice } from "../alarms/channels.ts";
import { AlarmsView, TestReport } from "../alarms/views.ts";
import { readBook } from "../alarms/watch.ts";
import { jsonResponse, route, type Route } from "../http/route.ts";

const tag = "Operation";
const PATH = "/api/v1/alarms";
const TEST_MS = 60_000;

export function alarmRoutes(deps: ChannelDeps): Route[] {
  return [
    route({
      method: "get",
      path: PATH,
      tag,
      scope: "admin",
      summary: "What is wrong now, and who is told",
      description:
        "All nodes share one list. An alarm is one for each kind of problem and server, not for each mailbox. It begins when the trouble has lasted a minute, or needs a person, and ends when it has been gone for a while. Nobody looks while no channel is set.",
      responses: { 200: { description: "The alarms", schema: AlarmsView } },
      problems: [],
      async handle() {
        const { book } = await readBook(deps);
        const { lookedAt, alarms, notices } = book;
        return jsonResponse({ channels: channelsOf(deps.config), lookedAt, alarms, undelivered: notices });
      },
    }),
    route({
      method: "post",
      path: `${PATH}/test`,
      tag,
      scope: "admin",
      audited: false,
      summary: "Tell a test alarm to every channel now",
      description: "With `ok: false` the report says which channel did not take it. Without a channel `ok` is false.",
      responses: { 200: { description: "What each channel did", schema: TestReport } },
      problems: [],
      handle: async ({ signal }) => jsonResponse(await testChannels(deps, signal(TEST_MS))),
    }),
  ];
}

async function testChannels(deps: ChannelDeps, signal: AbortSignal): Promise<TestReport> {
  const at = new Date(clock.now()).toISOString();
  const [cause, fix] = ["Somebody tests the alarms of Email Listener", "Nothing: it is only a test."];
  const alarm = { code: "test", place: deps.config.NODE_NAME || "the service", count: 1, cause, fix, begunAt: at };
  const notice = makeNotice("alarm.test", alarm, at, channelsOf(deps.config));
  const channels = await Promise.all(
    notice.pending.map(async (channel) => {
      const problem = await sendNotice(deps, channel, notice, signal);
      return problem === null ? { channel, ok: true } : { channel, ok: false, cause: problem };
    }),
  );
  return { ok: channels.length > 0 && channels.every(({ ok }) => ok), channels };
}
