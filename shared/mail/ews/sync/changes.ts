/** Compares one watched folder, for subscriptions and for polled mailboxes. */
import type { MailboxOf } from "../../../contract/mailbox.ts";
import type { Arrival, Cursor } from "../../../contract/message.ts";
import type { Emit } from "../../../telemetry/events.ts";
import type { WatchEvent } from "../../mail.ts";
import type { FolderFaults } from "../../exchange/folder-faults.ts";
import type { WatchedFolder } from "./folders.ts";
import { reconcile } from "./reconcile.ts";
import type { EwsSession } from "../client/session.ts";

export type ChangesContext = {
  session: EwsSession;
  mailbox: MailboxOf<"ews">;
  tell: (sign: WatchEvent) => void;
  faults: FolderFaults;
  emit?: Emit | undefined;
  /** The newest cursor of each folder. It is kept up to date here. */
  cursors: Map<string, Cursor>;
  /** What "now" means for a folder without a cursor, in milliseconds since 1970. */
  start: number;
  /** The ids of messages that the server said it delivered while the service watched. */
  delivered?: ReadonlySet<string> | undefined;
};

/**
 * Compares a folder with its cursor and hands over what is new. A folder that cannot be read becomes a fault.
 */
export async function* readChanges(
  context: ChangesContext,
  watched: WatchedFolder,
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  const { session, mailbox, emit, start, delivered, cursors, tell, faults } = context;
  const { path, folder } = watched;
  const onResponse = () => tell({ kind: "verified" });
  const comparison = { session, mailbox, path, folder, emit, start, delivered };
  try {
    for await (const arrival of reconcile(comparison, cursors.get(path), onResponse, signal)) {
      yield arrival;
      cursors.set(path, arrival.cursor);
    }
    faults.clear(watched);
  } catch (error) {
    signal.throwIfAborted();
    faults.add(watched, error);
  }
}
