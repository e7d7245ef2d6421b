/**
 * What a token sees that is bound to a prefix of mailbox ids. Routes are built over these dependencies, so no route has
 * to remember the prefix.
 */
import { getTaskDepth } from "../shared/queue/depth.ts";
import type { ParkedTasks } from "../shared/queue/queue.ts";
import { type EndpointPause, listPauses } from "../shared/store/endpoint-pauses.ts";
import type { Fact } from "../shared/telemetry/events.ts";
import type { ApiDeps } from "./deps.ts";
import { notFound } from "./http/problems.ts";
import { only, scopedStore } from "./scoped-store.ts";

/** `mailboxPrefix` begins the ids of all mailboxes that there are for these dependencies; "" for all. */
export type ScopedDeps = ApiDeps & {
  mailboxPrefix: string;
  /** How many tasks are parked; undefined while the queue cannot be asked. */
  countParkedTasks(): Promise<number | undefined>;
  /** The pauses of endpoints that hold deliveries of these mailboxes. */
  listPauses(): Promise<EndpointPause[]>;
};

/** As many parked tasks of one prefix are found at most. */
const MAX_PARKED = 10_000;

/** The dependencies of callers who see the mailboxes whose ids begin with `prefix`; with "" all mailboxes. */
export function scopedDeps(deps: ApiDeps, prefix: string): ScopedDeps {
  const listSeen = async () =>
    (await listPauses(deps.store)).filter(
      (one) => one.mailboxPrefix.startsWith(prefix) || prefix.startsWith(one.mailboxPrefix),
    );
  if (prefix === "") {
    const countParkedTasks = async () => (await getTaskDepth(deps.tasks)).tasks?.parked;
    return { ...deps, mailboxPrefix: "", countParkedTasks, listPauses: listSeen };
  }
  const parked = scopedParked(deps.parked, prefix);
  return {
    ...deps,
    mailboxPrefix: prefix,
    listPauses: listSeen,
    countParkedTasks: async () => (await parked.parked(MAX_PARKED)).length,
    store: scopedStore(deps.store, prefix),
    parked,
    tasks: only<ApiDeps["tasks"]>(
      {
        async send(task, options, signal) {
          if (!task.mailbox.startsWith(prefix)) throw notFound("mailbox", task.mailbox);
          await deps.tasks.send(task, options, signal);
        },
      },
      prefix,
    ),
    facts: {
      emit: deps.facts.emit,
      subscribe: (listener) =>
        deps.facts.subscribe((fact) => {
          if (mailboxOf(fact)?.startsWith(prefix)) listener(fact);
        }),
    },
    nodes: only<ApiDeps["nodes"]>({}, prefix),
  };
}

function mailboxOf(fact: Fact): string | undefined {
  return "mailbox" in fact ? fact.mailbox : undefined;
}

/** Ids of tasks are small numbers on some queues. So those of others count as ids that do not exist. */
function scopedParked(all: ParkedTasks, prefix: string): ParkedTasks {
  const listOwn = async (ids?: readonly string[]) => {
    const own = (await all.parked(MAX_PARKED, prefix)).map(({ id }) => id);
    return ids === undefined ? own : own.filter((id) => ids.includes(id));
  };
  const change = async (how: "replayParked" | "dropParked", ids?: readonly string[]) => {
    const own = await listOwn(ids);
    return own.length === 0 ? 0 : all[how](own);
  };
  return {
    parked: (limit, of = prefix) => all.parked(limit, of.startsWith(prefix) ? of : prefix),
    replayParked: (ids) => change("replayParked", ids),
    dropParked: (ids) => change("dropParked", ids),
  };
}
