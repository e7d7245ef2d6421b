/** /deliveries: the list with its filters in the URL, and one delivery with its replay. */
import { setImmediate } from "node:timers/promises";
import * as v from "valibot";
import { type Delivery, DeliveryState } from "../../../shared/contract/delivery.ts";
import { endpointOf } from "../../../shared/contract/endpoint.ts";
import type { Mailbox } from "../../../shared/contract/mailbox.ts";
import { asProblem, type Problem } from "../../../shared/contract/problem.ts";
import { clock } from "../../../shared/time.ts";
import type { ParkedTask } from "../../../shared/queue/queue.ts";
import { matchesDelivery as matches, reasonOf } from "../../bulk/filters.ts";
import { notFound } from "../../http/problems.ts";
import type { Route } from "../../http/route.ts";
import { type DeliveryFilter, type DeliveryGroup, deliveryListBody } from "../../pages/console/deliveries.ts";
import { deliveryBody } from "../../pages/console/delivery.ts";
import { queryOf } from "../../pages/console/parts.ts";
import { endpointHost } from "../../pages/console/shown-mailbox.ts";
import type { ScopedDeps } from "../../scoped-deps.ts";
import { hiddenProblem, readLetter } from "./letters.ts";
import { pauseOf, showDeliveries } from "./paused.ts";
import { action, type ConsoleCall, type ConsoleDeps, page, seeOther } from "./page.ts";

const PAGE_SIZE = 50;
/** As many deliveries are read for one page at most. */
const MAX_SCANNED = 2_000;
const SCAN_MS = 2_000;
const GROUPED = 200;
const SHOWN_TASKS = 50;
/** So many mailboxes with the same address are named. */
const MAX_ALIKE = 20;

export function deliveryRoutes(deps: ConsoleDeps): Route[] {
  return [
    page(deps, "/deliveries", showList),
    action(deps, "/deliveries/tasks", replayTasks),
    action(deps, "/deliveries/replay", replaySelected),
    page(deps, "/deliveries/{id}", showOne),
    page(deps, "/deliveries/{id}/raw", download),
    action(deps, "/deliveries/{id}/replay", replayOne),
  ];
}

/** Where the console must not show messages, nobody can ask for their words either. */
function readFilter({ deps }: ConsoleCall, given: URLSearchParams): DeliveryFilter {
  const read = (name: string) => (given.get(name) ?? "").trim().slice(0, 500);
  const state = DeliveryState.options.find((one) => one === given.get("state")) ?? "";
  const text = deps.config.CONSOLE_BODIES === "off" ? null : read("text");
  return { text, state, mailbox: read("mailbox"), host: read("host"), reason: read("reason") };
}

/** A mailbox may be named by its address. If several have it, the others are returned too. */
async function resolveMailbox({ deps }: ConsoleCall, filter: DeliveryFilter) {
  if (!filter.mailbox.includes("@")) return { filter, alike: [] };
  const { items } = await deps.store.mailboxes.list({ address: filter.mailbox, limit: MAX_ALIKE });
  const [first, ...others] = items.map(({ mailbox }) => mailbox.id);
  return { filter: { ...filter, mailbox: first ?? filter.mailbox }, alike: others };
}

async function showList(call: ConsoleCall): Promise<Response> {
  const given = readFilter(call, call.query);
  const { filter, alike } = await resolveMailbox(call, given);
  const { items, next, total } = await findPage(call, filter, call.query.get("after") ?? undefined);
  const isParked = filter.state === "parked";
  const groups = isParked && filter.reason === "" ? await groupByReason(call, filter) : [];
  const tasks = isParked ? await listTasks(call, filter.mailbox) : [];
  const addresses = await addressesOf(call.deps, items);
  const shown = await showDeliveries(call.deps, items);
  const typed = given.mailbox;
  const view = {
    base: call.base,
    query: call.query,
    filter,
    typed,
    alike,
    items: shown,
    next,
    total,
    addresses,
    groups,
    tasks,
  };
  return call.render({
    title: "Deliveries",
    isLive: true,
    body: deliveryListBody({ ...view, mayManage: call.may("manage") }),
  });
}

/** The addresses of the deliveries' mailboxes, by id. A mailbox that was removed has none. */
export async function addressesOf({ store }: Pick<ScopedDeps, "store">, deliveries: readonly Delivery[]) {
  const ids = [...new Set(deliveries.map(({ mailbox }) => mailbox))];
  const found = await Promise.all(ids.map((id) => store.mailboxes.get(id)));
  return new Map(found.flatMap((one) => (one ? [[one.mailbox.id, one.mailbox.address] as const] : [])));
}

type FoundPage = { items: Delivery[]; next: string | null; total: number | undefined };

/** Pages of the store until there are enough that match. Such a page may be longer than PAGE_SIZE. */
async function findPage(call: ConsoleCall, filter: DeliveryFilter, after: string | undefined): Promise<FoundPage> {
  const items: Delivery[] = [];
  const until = clock.monotonic() + SCAN_MS;
  let cursor = after ?? null;
  for (let scanned = 0; scanned < MAX_SCANNED; scanned += PAGE_SIZE) {
    const found = await listStored(call, filter, { limit: PAGE_SIZE, cursor });
    items.push(...found.items.filter((one) => matches(one, textsOf(filter))));
    cursor = found.next;
    const isStored = !filter.text && filter.host === "" && filter.reason === "";
    if (isStored) return { items, next: cursor, total: found.total };
    if (cursor === null || items.length >= PAGE_SIZE || clock.monotonic() > until) break;
    await setImmediate();
  }
  return { items, next: cursor, total: undefined };
}

const textsOf = ({ text, ...filter }: DeliveryFilter) => ({ ...filter, text: text ?? "" });

function listStored({ deps }: ConsoleCall, filter: DeliveryFilter, page_: { limit: number; cursor: string | null }) {
  const state = DeliveryState.options.find((one) => one === filter.state);
  return deps.store.deliveries.list({
    limit: page_.limit,
    ...(page_.cursor !== null && { cursor: page_.cursor }),
    ...(state && { state }),
    ...(filter.mailbox !== "" && { mailbox: filter.mailbox }),
    ...(filter.text && { text: filter.text }),
  });
}

async function groupByReason(call: ConsoleCall, filter: DeliveryFilter): Promise<DeliveryGroup[]> {
  const { items } = await listStored(call, filter, { limit: GROUPED, cursor: null });
  const groups = Map.groupBy(
    items.filter((one) => matches(one, textsOf(filter))),
    (one) => JSON.stringify([endpointHost(one.endpoint), reasonOf(one)]),
  );
  const rows = [...groups.values()].flatMap((group) => {
    const [first] = group;
    if (!first) return [];
    const { endpoint, updatedAt } = first;
    return [{ host: endpointHost(endpoint), reason: reasonOf(first), count: group.length, newest: updatedAt }];
  });
  return rows.toSorted((a, b) => b.count - a.count);
}

/** While the queue cannot be asked, the page says so instead. */
async function listTasks({ deps }: ConsoleCall, mailbox: string): Promise<ParkedTask[] | string> {
  try {
    const tasks = await deps.parked.parked(SHOWN_TASKS, ...(mailbox === "" ? [] : [mailbox]));
    return mailbox === "" ? tasks : tasks.filter(({ task }) => task?.mailbox === mailbox);
  } catch (error) {
    return asProblem(error).message;
  }
}

async function getDelivery({ deps, id }: ConsoleCall): Promise<Delivery> {
  const delivery = await deps.store.deliveries.get(id);
  if (!delivery) throw notFound("delivery", id);
  return delivery;
}

async function showOne(call: ConsoleCall): Promise<Response> {
  const delivery = await getDelivery(call);
  const { CONSOLE_BODIES: bodies } = call.deps.config;
  const letter = bodies === "off" ? undefined : await readLetter(call.deps.store, delivery);
  const [shown = delivery] = await showDeliveries(call.deps, [delivery]);
  const [pause, found] = await Promise.all([
    pauseOf(call.deps, delivery),
    call.deps.store.mailboxes.get(delivery.mailbox),
  ]);
  const target = found && { address: found.mailbox.address, url: sentTo(delivery, found.mailbox) };
  const view = {
    base: call.base,
    query: call.query,
    delivery: shown,
    target,
    pause,
    letter,
    bodies,
    mayManage: call.may("manage"),
  };
  return call.render({ title: "Delivery", isLive: true, hasFrame: bodies === "on", body: deliveryBody(view) });
}

/** A delivery knows the origin alone. Its mailbox knows the URL, unless it delivers elsewhere by now. */
function sentTo({ endpoint }: Delivery, { deliver }: Mailbox): string {
  const url = endpointOf(deliver.url);
  return new URL(url).origin === endpoint ? url : endpoint;
}

function download({ api, id, deps }: ConsoleCall): Promise<Response> {
  if (deps.config.CONSOLE_BODIES === "off") throw hiddenProblem("messages");
  return api("GET", `/api/v1/messages/${encodeURIComponent(id)}/raw`);
}

async function replayOne(call: ConsoleCall): Promise<Response> {
  const id = encodeURIComponent(call.id);
  await call.api("POST", `/api/v1/deliveries/${id}/replay`);
  return seeOther(`${call.base}/deliveries/${id}${queryOf({ done: "replay" })}`);
}

/** Each is a call of its own, so one that is gone meanwhile does not stop the others. Throws if none succeeds. */
async function replaySelected(call: ConsoleCall): Promise<Response> {
  const problems: Problem[] = [];
  const ids = call.form.getAll("id");
  for (const id of ids) {
    try {
      await call.api("POST", `/api/v1/deliveries/${encodeURIComponent(id)}/replay`);
    } catch (error) {
      problems.push(asProblem(error));
    }
  }
  const [problem] = problems;
  if (problem && problems.length === ids.length) throw problem;
  const n = ids.length - problems.length;
  const result = { done: n === 0 ? "nothing" : "replay", n: String(n), failed: String(problems.length) };
  const place = { ...readFilter(call, call.form), after: call.form.get("after") };
  return seeOther(`${call.base}/deliveries${queryOf({ ...place, ...result })}`);
}

const Replayed = v.object({ replayed: v.number() });

async function replayTasks(call: ConsoleCall): Promise<Response> {
  const answer = await call.api("POST", "/api/v1/tasks/parked/replay", {});
  const { replayed } = v.parse(Replayed, await answer.json());
  return seeOther(`${call.base}/deliveries${queryOf({ state: "parked", done: "tasks", n: String(replayed) })}`);
}
