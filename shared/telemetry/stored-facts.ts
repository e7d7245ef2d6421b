/** Reads facts from a store. Facts that 0.1 wrote get their new names. */
import { withCurrentCode } from "../contract/problem.ts";
import { currentTaskKind } from "../contract/task.ts";
import type { Fact } from "./events.ts";

/** Kinds of facts with another name in 0.1. A mailbox's history may still hold some. */
const RENAMED_FACTS: ReadonlyMap<string, Fact["kind"]> = new Map([
  ["mail.unfetched", "mail.download_failed"],
  ["mail.tidied", "mail.after_delivery_done"],
  ["send.uncopied", "send.copy_failed"],
  ["send.untold", "send.notify_failed"],
  ["send.answered", "send.auto_replied"],
  ["mailbox.overran", "mailbox.poll_overran"],
  ["endpoint.rested", "endpoint.paused"],
  ["endpoint.told", "endpoint.notified"],
  ["queue.away", "queue.connection_failed"],
  ["queue.back", "queue.recovered"],
  ["listeners.guessed", "creatio.request_guessed"],
  ["listeners.recorded", "creatio.request_recorded"],
]);

/** The new name of a kind of fact that somebody may know by its name of 0.1. */
export function currentFactKind(kind: string): string {
  return RENAMED_FACTS.get(kind) ?? kind;
}

/**
 * The members with other names or values in 0.1: `locked` of `mailbox.overran`, `task` of `task.failed`, codes of
 * failures.
 */
type StoredFact = { kind: string; failure?: { code: string }; task?: string; locked?: boolean };

/** Reads a fact that this version or 0.1 stored as JSON; undefined when it is no fact. */
export function parseStoredFact(value: unknown): Fact | undefined {
  if (typeof value !== "object" || value === null || !("at" in value) || !("kind" in value)) return undefined;
  const { kind, failure, task, locked, ...rest } = value as StoredFact;
  return {
    ...rest,
    kind: RENAMED_FACTS.get(kind) ?? kind,
    ...(failure && { failure: withCurrentCode(failure) }),
    ...(task !== undefined && { task: currentTaskKind(task) }),
    ...(locked !== undefined && { processLock: locked }),
  } as Fact;
}
