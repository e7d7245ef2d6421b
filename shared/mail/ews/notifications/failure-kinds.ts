/** What an Exchange response code means for a subscription. A table: a new code is a new row. */
import type { Problem } from "../../../contract/problem.ts";
import { getResponseCode } from "../soap/errors.ts";

/**
 * `lost`: the server does not know the subscription (any more), and a new one helps. `refused`: there is no such
 * subscription here, so another way to notice new mail is needed. `crowded`: the login has all the connections that it
 * may have.
 */
export type FailureKind = "lost" | "refused" | "crowded";

const FAILURE_KINDS: Readonly<Record<string, FailureKind>> = {
  // The server restarted, the subscription was idle for too long, or it is on another server.
  ErrorSubscriptionNotFound: "lost",
  ErrorInvalidSubscription: "lost",
  ErrorExpiredSubscription: "lost",
  ErrorSubscriptionUnsubscribed: "lost",
  ErrorSubscriptionAccessDenied: "lost",
  ErrorInvalidWatermark: "lost",
  ErrorReadEventsFailed: "lost",
  ErrorEventNotFound: "lost",
  // The server dropped events. Microsoft advises a new subscription instead of the old watermark.
  ErrorMissedNotificationEvents: "lost",
  ErrorExceededConnectionCount: "crowded",
  ErrorExceededSubscriptionCount: "refused",
  ErrorSubscriptionDelegateAccessNotSupported: "refused",
  ErrorInvalidSubscriptionRequest: "refused",
  ErrorInvalidPullSubscriptionId: "lost",
  // Exchange 2007, and 2010 without service packs, have no streams.
  ErrorInvalidServerVersion: "refused",
  ErrorIncorrectSchemaVersion: "refused",
  ErrorSchemaValidation: "refused",
  ErrorInvalidRequest: "refused",
  ErrorUnsupportedSubFilter: "refused",
  ErrorNotSupported: "refused",
};

export function classifyCode(code: string): FailureKind | undefined {
  return FAILURE_KINDS[code];
}

/** What a Problem of the server means for a subscription. */
export function classifyProblem(problem: Problem): FailureKind | undefined {
  return classifyCode(getResponseCode(problem));
}
