/** /outgoing: what the mailboxes send, with the result of each recipient. */
import { SendState } from "../../../shared/contract/sending.ts";
import type { Sending } from "../../../shared/contract/sending.ts";
import type { Route } from "../../http/route.ts";
import { outgoingBody } from "../../pages/console/outgoing.ts";
import type { ScopedDeps } from "../../scoped-deps.ts";
import { type Fresh, keepFresh } from "./fresh.ts";
import { type ConsoleCall, type ConsoleDeps, page } from "./page.ts";
import { scanMailboxes } from "./scan.ts";

const PAGE_SIZE = 50;
/** The store lists sendings by mailbox. So many mailboxes are asked for their newest ones. */
const MAX_ASKED = 200;
const OF_EACH = 10;

export function outgoingRoutes(deps: ConsoleDeps): Route[] {
  const sendersOf = keepFresh(findSenders);
  return [page(deps, "/outgoing", (call) => showOutgoing(call, sendersOf))];
}

type SendersOf = (deps: ScopedDeps) => Promise<Fresh<Senders>>;

async function showOutgoing(call: ConsoleCall, sendersOf: SendersOf): Promise<Response> {
  const state = SendState.options.find((one) => one === call.query.get("state"));
  const mailbox = (call.query.get("mailbox") ?? "").trim().slice(0, 128);
  const asked = mailbox === "" ? (await sendersOf(call.deps)).value : { ids: [mailbox], isWhole: true };
  const limit = mailbox === "" ? OF_EACH : PAGE_SIZE;
  const lists = await Promise.all(
    asked.ids.map((id) => call.deps.store.outbox.list({ mailbox: id, limit, ...(state && { state }) })),
  );
  const sendings: Sending[] = lists
    .flatMap(({ items }) => items)
    .toSorted((a, b) => (a.createdAt < b.createdAt ? 1 : -1));
  const filter = { state: state ?? "", mailbox };
  const view = { base: call.base, filter, sendings: sendings.slice(0, PAGE_SIZE), senders: asked.ids.length };
  return call.render({ title: "Outgoing", isLive: true, body: outgoingBody({ ...view, isWhole: asked.isWhole }) });
}

type Senders = { ids: string[]; isWhole: boolean };

async function findSenders(deps: ScopedDeps): Promise<Senders> {
  const ids: string[] = [];
  for await (const { mailbox } of scanMailboxes(deps, {})) {
    if (!mailbox.send) continue;
    if (ids.length === MAX_ASKED) return { ids, isWhole: false };
    ids.push(mailbox.id);
  }
  return { ids, isWhole: true };
}
