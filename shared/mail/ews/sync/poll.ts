/** A polled Exchange mailbox: each run compares its folders with their cursors; between runs nothing is asked. */
import type { Arrival } from "../../../contract/message.ts";
import { inRuns } from "../../poll-loop.ts";
import { watchedFolders } from "./folders.ts";
import { lookedAt, type Looking } from "./changes.ts";
import type { EwsSession } from "../client/session.ts";

export type Polling = Omit<Looking, "session"> & {
  /** The session, opened (anew) when it is not. */
  open: () => Promise<EwsSession>;
  /** `performance.now()` when connecting began. */
  startedAt: number;
};

/** The watch of MailConnection for `mode: poll`. */
export async function* pollOver(polling: Polling, signal: AbortSignal): AsyncGenerator<Arrival, void, undefined> {
  const { mailbox, tell, open, startedAt } = polling;
  let connected = false;
  async function* run(): AsyncGenerator<Arrival, void, undefined> {
    const session = await open();
    for (const folder of await watchedFolders(session, mailbox, signal)) {
      yield* lookedAt({ ...polling, session }, folder, signal);
    }
    const ms = Math.round(performance.now() - startedAt);
    if (!connected) tell({ kind: "connected", push: false, ms, capabilities: [] });
    connected = true;
  }
  try {
    yield* inRuns({ poll: mailbox.receive.poll, tell }, run, () => Promise.resolve(), signal);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
