/** Counts the tasks of the queue. If the broker is away, that is an answer and no failure. */
import { asProblem } from "../contract/problem.ts";
import type { TaskSource } from "./queue.ts";

/** The number of tasks in the queue, or the reason why they cannot be counted. */
export async function getTaskDepth(tasks: Pick<TaskSource, "depth">) {
  try {
    return { tasks: await tasks.depth(), problem: null };
  } catch (error) {
    const problem = asProblem(error);
    if (problem.code !== "queue" && problem.code !== "timeout") throw problem;
    return { tasks: null, problem: problem.message };
  }
}
