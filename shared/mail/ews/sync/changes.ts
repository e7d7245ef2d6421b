/** One look at a watched folder, for subscriptions and for polled mailboxes alike. */
import type { MailboxOf } from "../../../contract/mailbox.ts";
import type { Arrival, Cursor } from "../../../contract/message.ts";
import { Problem } from "../../../contract/problem.ts";
import type { Emit } from "../../../telemetry/events.ts";
import type { WatchSign } from "../../mail.ts";
import type { Watched } from "./folders.ts";
import { reconcile } from "./reconcile.ts";
import type { EwsSession } from "../client/session.ts";

export type Looking = {
  session: EwsSession;
  mailbox: MailboxOf<"ews">;
  tell: (sign: WatchSign) => void;
  emit?: Emit | undefined;
  /** The newest cursor of each folder, kept up to date here. */
  cursors: Map<string, Cursor>;
  /** What "now" means for a folder without a cursor, in milliseconds since 1970. */
  start: number;
};

/** Compares a folder with its cursor and hands over what is new. A folder that is gone is passed over where all are watched. */
export async function* lookedAt(
  looking: Looking,
  { path, folder }: Watched,
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  const { session, mailbox, emit, start, cursors, tell } = looking;
  const heard = () => tell({ kind: "verified" });
  const place = { session, mailbox, path, folder, emit, start };
  try {
    for await (const arrival of reconcile(place, cursors.get(path), heard, signal)) {
      yield arrival;
      cursors.set(path, arrival.cursor);
    }
  } catch (error) {
    if (mailbox.receive.folders === "all" && error instanceof Problem && error.code === "folder") return;
    throw error;
  }
}
