/** What a check is and what it finds. A check that did not run says so: nothing is well before somebody looked. */
import * as v from "valibot";
import type { Problem } from "../../shared/contract/problem.ts";
import type { Actor } from "../../shared/contract/token.ts";
import type { MailboxWithState } from "../../shared/store/store.ts";
import type { ApiDeps } from "../deps.ts";
import type { Survey } from "./survey.ts";
import type { Visits } from "./visits.ts";

/** All checks, in the order in which they are shown. The last two need a mailbox. */
export const CheckName = v.picklist([
  "settings",
  "keys",
  "nodes",
  "redis",
  "rabbitmq",
  "sqlite",
  "disk",
  "subscriptions",
  "address",
  "endpoints",
  "clock",
  "parked",
  "expiry",
  "mailbox",
  "testMail",
]);
export type CheckName = v.InferOutput<typeof CheckName>;

/** `not_run`: there was nothing to look at, or nobody has looked yet; `cause` says which. */
export const CheckStatus = v.picklist(["ok", "failed", "not_run"]);

/**
 * What a check found. `detail` is one line about what is there, `cause` and `fix` are about what is wrong, `data` is for
 * programs. Warnings do not fail a check. Nothing of it is a secret.
 */
export type Finding = {
  status: v.InferOutput<typeof CheckStatus>;
  detail?: string;
  cause?: string;
  fix?: string;
  warnings?: string[];
  data?: Record<string, unknown>;
};

/** A finding with its check. `at` and `ms` say when it ran and how long it took; null if it has not run. */
export const CheckResult = v.object({
  name: CheckName,
  title: v.string(),
  status: CheckStatus,
  detail: v.exactOptional(v.string()),
  cause: v.exactOptional(v.string()),
  fix: v.exactOptional(v.string()),
  warnings: v.array(v.string()),
  data: v.exactOptional(v.record(v.string(), v.unknown())),
  at: v.nullable(v.string()),
  ms: v.nullable(v.number()),
});
export type CheckResult = v.InferOutput<typeof CheckResult>;

/** What the routes of the checks answer. */
export const CheckReport = v.object({
  ok: v.pipe(
    v.nullable(v.boolean()),
    v.description("False if a check failed, true if at least one ran and none failed, null if none has run."),
  ),
  node: v.string(),
  version: v.string(),
  checks: v.array(CheckResult),
});
export type CheckReport = v.InferOutput<typeof CheckReport>;

export type CheckDeps = Pick<
  ApiDeps,
  "config" | "version" | "store" | "tasks" | "facts" | "subscriptions" | "nodes" | "mail" | "probes"
>;

/** What whoever asks for checks may name. `address` is one of the service, as a CRM has it. */
export type CheckOptions = { mailbox?: MailboxWithState; address?: string; actor: Pick<Actor, "id" | "name"> };

/** One run. The mailboxes are read once for all its checks, and each endpoint gets one connection. */
export type CheckCall = CheckOptions & {
  deps: CheckDeps;
  survey(): Promise<Survey>;
  visits(): Promise<Visits>;
};

export type Check = {
  title: string;
  /** How long it may take. */
  seconds: number;
  /** Throws a Problem in place of a failed finding. */
  run(call: CheckCall, signal: AbortSignal): Promise<Finding> | Finding;
};

export function notRun(cause: string, fix?: string): Finding {
  return { status: "not_run", cause, ...(fix !== undefined && { fix }) };
}

/** A failed finding with the cause and the fix of a problem. */
export function failedBy({ message, fix, evidence }: Problem): Finding {
  return { status: "failed", cause: message, fix, ...(evidence !== null && { detail: evidence }) };
}

/** `3 mailboxes`, `1 mailbox`. */
export function countOf(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}
