/** What a refusal means for a subscription, by the code of Exchange. A table: a new code is a new row. */
import type { Problem } from "../../../contract/problem.ts";

/**
 * `lost`: the server does not know the subscription (any more), a new one helps. `refused`: there is no such subscription to be had here, so
 * another way of noticing is needed. `crowded`: the account has all the connections that it may have.
 */
export type Fate = "lost" | "refused" | "crowded";

const FATES: Readonly<Record<string, Fate>> = {
  // The server was restarted, or the subscription lay idle for too long, or it lies on another server.
  ErrorSubscriptionNotFound: "lost",
  ErrorInvalidSubscription: "lost",
  ErrorExpiredSubscription: "lost",
  ErrorSubscriptionUnsubscribed: "lost",
  ErrorSubscriptionAccessDenied: "lost",
  ErrorInvalidWatermark: "lost",
  ErrorReadEventsFailed: "lost",
  ErrorEventNotFound: "lost",
  // Events were dropped; Microsoft advises a new subscription rather than the old watermark.
  ErrorMissedNotificationEvents: "lost",
  ErrorExceededConnectionCount: "crowded",
  ErrorExceededSubscriptionCount: "refused",
  ErrorSubscriptionDelegateAccessNotSupported: "refused",
  ErrorInvalidSubscriptionRequest: "refused",
  ErrorInvalidPullSubscriptionId: "lost",
  // Exchange 2007 and 2010 without service packs do not know streams.
  ErrorInvalidServerVersion: "refused",
  ErrorIncorrectSchemaVersion: "refused",
  ErrorSchemaValidation: "refused",
  ErrorInvalidRequest: "refused",
  ErrorUnsupportedSubFilter: "refused",
  ErrorNotSupported: "refused",
};

export function fateOf(code: string): Fate | undefined {
  return FATES[code];
}

/** What a Problem of the server means for a subscription. */
export function fateOfProblem(problem: Problem): Fate | undefined {
  return fateOf(codeOf(problem));
}

/** The code of Exchange that a Problem tells in its evidence; empty where there is none. */
export function codeOf({ evidence }: Problem): string {
  return /\bError[A-Za-z0-9]+/.exec(evidence ?? "")?.[0] ?? "";
}
