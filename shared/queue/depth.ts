/** How much waits, asked so that a broker that is away is an answer and no failure. */
import { asProblem } from "../contract/problem.ts";
import type { TaskSource } from "./queue.ts";

/** The tasks in the queue; without them, why they cannot be counted. A broker that is away is no reason to say nothing at all. */
export async function tasksNow(tasks: Pick<TaskSource, "depth">) {
  try {
    return { tasks: await tasks.depth(), problem: null };
  } catch (error) {
    const problem = asProblem(error);
    if (problem.code !== "queue" && problem.code !== "timeout") throw problem;
    return { tasks: null, problem: problem.message };
  }
}
