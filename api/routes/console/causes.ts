/** The work list: one row for each cause of trouble, however many mailboxes or deliveries have it. */
import type { Delivery } from "../../../shared/contract/delivery.ts";
import { PROBLEMS } from "../../../shared/contract/problem.ts";
import type { Page } from "../../../shared/store/store.ts";
import { reasonOf } from "../../bulk/filters.ts";
import type { Readiness } from "../../deps.ts";
import type { Cause } from "../../pages/console/now.ts";
import { endpointHost, serverHost, type ShownMailbox } from "../../pages/console/shown-mailbox.ts";
import type { ShownState, Tone } from "../../pages/console/states.ts";
import { countOf } from "../../pages/console/words.ts";

/** The states that have a cause. */
export const TROUBLED: ReadonlySet<ShownState> = new Set([
  "needs_attention",
  "reconnecting",
  "throttled",
  "unverified",
]);

/** One row for the mailboxes of one server with one problem. All of them are in trouble. */
export function mailboxCauses(mailboxes: readonly ShownMailbox[]): Cause[] {
  const groups = Map.groupBy(mailboxes, (one) => `${one.shown}|${one.problem?.code ?? ""}|${placeOf(one)}`);
  return [...groups.values()].flatMap(mailboxCause);
}

function placeOf({ mailbox, problem }: ShownMailbox): string {
  return problem?.code === "endpoint_gone" ? endpointHost(mailbox.deliver.url) : serverHost(mailbox);
}

function mailboxCause(group: ShownMailbox[]): Cause[] {
  const newest = group.toSorted((a, b) => (a.state.since < b.state.since ? 1 : -1))[0];
  if (!newest) return [];
  const { shown, problem, mailbox } = newest;
  const place = placeOf(newest);
  const filter = new URLSearchParams({ state: shown, host: place });
  const single = group.length === 1;
  return [
    {
      tone: shown === "needs_attention" ? "bad" : shown === "unverified" ? "off" : "warn",
      what: single ? mailbox.address : countOf(group.length, "mailbox", "mailboxes"),
      where: place,
      since: oldest(group.map(({ state }) => (shown === "unverified" ? state.lastVerifiedAt : state.since))),
      ...wordsOf(shown, problem),
      path: single ? `/mailboxes/${encodeURIComponent(mailbox.id)}` : `/mailboxes?${filter}`,
      link: single ? "Open the mailbox" : "Show the mailboxes",
    },
  ];
}

function wordsOf(shown: ShownState, problem: ShownMailbox["problem"]): Pick<Cause, "cause" | "fix"> {
  if (shown === "unverified")
    return {
      cause: "The mail server has not answered for more than twice the usual time, or no node reports it.",
      fix: "Look whether the API nodes run and reach the mail server. A pause and a resume begins anew.",
    };
  if (problem) return { cause: problem.cause, fix: problem.fix };
  return { cause: "The subscription is not connected.", fix: "Nothing to do: the service connects again by itself." };
}

/** One row for the parked deliveries of one endpoint with one reason, and one for parked tasks. */
export function deliveryCauses(parked: Page<Delivery>, tasks: number): Cause[] {
  const groups = Map.groupBy(parked.items, (one) => `${endpointHost(one.endpoint)}|${reasonOf(one)}`);
  const isPart = parked.items.length < parked.total;
  const rows = [...groups.values()].flatMap((group): Cause[] => {
    const [newest] = group;
    if (!newest) return [];
    const filter = new URLSearchParams({
      state: "parked",
      host: endpointHost(newest.endpoint),
      reason: reasonOf(newest),
    });
    return [
      {
        tone: "bad",
        what: `${isPart ? "at least " : ""}${countOf(group.length, "parked message")}`,
        where: endpointHost(newest.endpoint),
        since: oldest(group.map(({ updatedAt }) => updatedAt)),
        cause: reasonOf(newest),
        fix: PROBLEMS.endpoint.fix,
        path: `/deliveries?${filter}`,
        link: "Show and replay",
      },
    ];
  });
  return [...rows, ...(tasks > 0 ? [taskCause(tasks)] : [])];
}

function taskCause(tasks: number): Cause {
  return {
    tone: "bad",
    what: countOf(tasks, "parked task"),
    where: "the queue",
    since: null,
    cause: "Tasks failed for good, or workers died during them.",
    fix: "Read their reasons, then replay them.",
    path: "/deliveries?state=parked#tasks",
    link: "Show and replay",
  };
}

/** What is wrong with the nodes themselves. */
export function nodeCauses({ checks }: Readiness, unserved: number): Cause[] {
  const failed = checks
    .filter(({ ok }) => !ok)
    .map(({ name, cause }): Cause => {
      const fix = name === "queue" ? PROBLEMS.queue.fix : PROBLEMS.store.fix;
      return { ...NODE_CAUSE, what: `This node: ${name}`, cause: cause ?? "It is not ready.", fix };
    });
  if (unserved === 0) return failed;
  const full: Cause = {
    ...NODE_CAUSE,
    what: countOf(unserved, "mailbox", "mailboxes"),
    cause: "They have no node, because all nodes are full.",
    fix: "Start another API node, or raise MAILBOXES_PER_NODE.",
  };
  return [...failed, full];
}

const NODE_CAUSE: Cause = {
  tone: "bad",
  what: "",
  where: "nodes",
  since: null,
  cause: "",
  fix: "",
  path: "/diagnostics",
  link: "Run the checks",
};

function oldest(times: (string | null)[]): string | null {
  return times.filter((time) => time !== null).toSorted()[0] ?? null;
}

const WEIGHTS: Record<Tone, number> = { bad: 0, off: 1, warn: 2, good: 3 };

/** What needs a person comes first. */
export function byWeight(a: Cause, b: Cause): number {
  return WEIGHTS[a.tone] - WEIGHTS[b.tone];
}
