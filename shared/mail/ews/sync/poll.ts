/** A polled Exchange mailbox. Each run compares its folders with their cursors. Between runs there are no requests. */
import type { Arrival } from "../../../contract/message.ts";
import { pollLoop } from "../../poll-loop.ts";
import { folderFaults } from "../../exchange/folder-faults.ts";
import { getWatchList } from "./folders.ts";
import { readChanges, type ChangesContext } from "./changes.ts";
import type { EwsSession } from "../client/session.ts";

export type PollContext = Omit<ChangesContext, "session" | "faults"> & {
  /** The session. It is opened (again) if it is not open. */
  open: () => Promise<EwsSession>;
  /** `performance.now()` when connecting began. */
  startedAt: number;
};

/** The watch of MailConnection for `mode: poll`. */
export async function* pollChanges(
  context: PollContext,
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  const { mailbox, tell, open, startedAt } = context;
  const faults = folderFaults(mailbox, tell);
  let connected = false;
  async function* run(): AsyncGenerator<Arrival, void, undefined> {
    const session = await open();
    const list = await getWatchList(session, mailbox, signal);
    for (const folder of list.folders) yield* readChanges({ ...context, session, faults }, folder, signal);
    faults.check(list.folders);
    const ms = Math.round(performance.now() - startedAt);
    if (!connected) tell({ kind: "connected", push: false, ms, capabilities: [] });
    faults.report(list.folders, list, !connected);
    connected = true;
  }
  try {
    yield* pollLoop({ poll: mailbox.receive.poll, notify: tell }, run, () => Promise.resolve(), signal);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
