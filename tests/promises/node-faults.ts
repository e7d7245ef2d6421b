/** What every queue of the suite takes for its node's fault. */
import type { Problem } from "../../shared/contract/problem.ts";

export const isStoreAway = async ({ code }: Problem) => code === "store";
