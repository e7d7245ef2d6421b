/** Where Microsoft Graph sends a mailbox's notifications, and how a node knows that one is genuine. */
import { timingSafeEqual } from "node:crypto";
import { type GraphHints, graphHints } from "./hints.ts";

/** The paths under BASE_PATH. The mailbox's id is the last part. */
export const NOTIFICATION_PATH = "/graph/notifications";
export const LIFECYCLE_PATH = "/graph/lifecycle";

/** What a subscription names. `clientState` comes back with each notification. */
export type NotificationAddress = { notificationUrl: string; lifecycleNotificationUrl: string; clientState: string };

export interface GraphPush {
  readonly hints: GraphHints;
  /** How long subscriptions of a process that starts are spread, in milliseconds. */
  readonly spreadMs: number;
  /** Milliseconds until the next attempt, after the n-th refused subscription in a row. */
  retryMs(failures: number): number;
  /** Undefined without an address that this Graph accepts: it sends by https only. */
  addressOf(mailbox: string, root: string): NotificationAddress | undefined;
  /** Whether `clientState` is that of the mailbox, by any of the keys. Takes the same time whatever is wrong. */
  isGenuine(mailbox: string, clientState: string): boolean;
}

export type GraphPushDeps = {
  /** PUBLIC_URL and BASE_PATH. */
  publicUrls: readonly string[];
  basePath: string;
  /** Names that only this installation can compute, by each of its keys (Vault.marks). */
  marks: (text: string) => string[];
  /** BACKOFF_SCALE. */
  scale: number;
};

const MINUTE = 60_000;
const SPREAD_MS = MINUTE;
const RETRY_MS = [5 * MINUTE, 15 * MINUTE, 60 * MINUTE];

export function graphPush({ publicUrls, basePath, marks, scale }: GraphPushDeps): GraphPush {
  const statesOf = (mailbox: string) => marks(`graph notifications|${mailbox}`);
  return {
    hints: graphHints(),
    spreadMs: scale * SPREAD_MS,
    retryMs: (failures) => scale * (RETRY_MS[Math.min(failures, RETRY_MS.length) - 1] ?? MINUTE),
    addressOf(mailbox, root) {
      const url = publicUrls.find((one) => one.startsWith("https:") || root.startsWith("http:"));
      const [clientState] = statesOf(mailbox);
      if (url === undefined || clientState === undefined) return undefined;
      const start = new URL(url).origin + basePath;
      const id = encodeURIComponent(mailbox);
      return {
        notificationUrl: `${start}${NOTIFICATION_PATH}/${id}`,
        lifecycleNotificationUrl: `${start}${LIFECYCLE_PATH}/${id}`,
        clientState,
      };
    },
    isGenuine: (mailbox, clientState) =>
      statesOf(mailbox).reduce((genuine, state) => isEqual(state, clientState) || genuine, false),
  };
}

function isEqual(a: string, b: string): boolean {
  const [known, given] = [Buffer.from(a), Buffer.from(b)];
  return known.length === given.length && timingSafeEqual(known, given);
}
