/** Every kind of task and who does it: the one value that worker nodes run, and API nodes too. */
import type { Task } from "../shared/contract/task.ts";
import type { Perform } from "../shared/queue/queue.ts";
import { deliver, type DeliverDeps } from "./deliver.ts";
import { redeliver } from "./redeliver.ts";
import { tidy } from "./tidy.ts";

type Handlers = {
  [K in Task["kind"]]: (task: Extract<Task, { kind: K }>, tries: number, signal: AbortSignal) => ReturnType<Perform>;
};

export function performer(deps: DeliverDeps): Perform {
  const handlers: Handlers = {
    deliver: (task, tries, signal) => deliver(deps, task, tries, signal),
    redeliver: (task, _tries, signal) => redeliver(deps, task, signal),
    tidy: (task, _tries, signal) => tidy(deps, task, signal),
  };
  // A union of kinds cannot be matched with its handler by the compiler; the table's type holds the pairing.
  return (task, tries, signal) =>
    (handlers[task.kind] as (task: Task, tries: number, signal: AbortSignal) => ReturnType<Perform>)(
      task,
      tries,
      signal,
    );
}
