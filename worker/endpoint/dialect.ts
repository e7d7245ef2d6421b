/**
 * What each dialect needs besides its encoding: locks, smaller requests, callbacks. A dialect without an entry needs
 * none of it.
 */
import type { Mailbox, MailboxState } from "../../shared/contract/mailbox.ts";
import type { ProblemView } from "../../shared/contract/problem.ts";
import { mailboxStateRequest, stateToReport, refreshTokenRequest } from "./creatio/callbacks.ts";
import { creatioSkipReason, smallerCreatioRequest, creatioLockKey, encodeCreatio } from "./creatio/dialect.ts";
import type { DeliverableMessage, PostOutcome, WireRequest, Encode } from "./endpoint.ts";
import { encodeWebhook } from "./webhook.ts";

export type DialectHooks = {
  /** Why a message with these flags is not for the endpoint; undefined when it is. */
  skipReason(flags: string[]): string | undefined;
  /** Deliveries with the same key go one after the other. */
  lockKey(mailbox: Mailbox, raw: Uint8Array): string;
  /** A smaller request for a second attempt after this outcome; undefined when there is none. */
  smallerRequest(
    letter: DeliverableMessage,
    request: WireRequest,
    outcome: PostOutcome,
  ): Promise<WireRequest | undefined>;
  /** What the endpoint must know about a mailbox in this state; null when there is nothing to report. */
  stateToReport(state: Pick<MailboxState, "status" | "problem">): { told: string; problem: ProblemView | null } | null;
  mailboxStateRequest(mailbox: Mailbox, problem: ProblemView | null): WireRequest;
  /** Asks for new credentials. */
  refreshTokenRequest(mailbox: Mailbox): WireRequest;
};

export const DIALECT_HOOKS: { readonly [D in Dialect]?: DialectHooks } = {
  creatio: {
    skipReason: creatioSkipReason,
    lockKey: creatioLockKey,
    smallerRequest: smallerCreatioRequest,
    stateToReport,
    mailboxStateRequest,
    refreshTokenRequest,
  },
};
export type Dialect = Mailbox["deliver"]["dialect"];

export const ENCODERS: Record<Dialect, Encode> = { webhook: encodeWebhook, creatio: encodeCreatio };
