/**
 * The state in the cursor of a folder that is received by Exchange Web Services: the server's sync state, and the numbers
 * of messages. Graph reads it when a mailbox moves there.
 */
import * as v from "valibot";
import { type AssignedUids, parseAssignedUids, serializeAssignedUids } from "../assigned-uids.ts";

/**
 * `sync` is the server's sync state, empty before the first comparison. `known` has the numbers of the last messages
 * that were handed over (up to the cursor's uid) and of those that have a number but were not handed over yet (above
 * it). `from`, in milliseconds since 1970, is set while a folder is read from its beginning: messages received before
 * it are not handed over.
 */
export type SyncState = { sync: string; known: AssignedUids; from: number | null };

/**
 * How many handed-over messages are recognised by their ids when a folder is read again. The others are recognised by
 * their content.
 */
export const MAX_REMEMBERED = 200;

const StoredState = v.strictObject({ sync: v.string(), known: v.string(), from: v.nullable(v.number()) });
const PREFIX = "ews-1:";

/** Parses a cursor's state. Undefined if another protocol wrote it. */
export function parseState(state: string | null): SyncState | undefined {
  if (state === null || !state.startsWith(PREFIX)) return undefined;
  const { sync, known, from } = v.parse(StoredState, JSON.parse(state.slice(PREFIX.length)));
  return { sync, known: parseAssignedUids(known), from };
}

/** Serializes the state for a cursor. */
export function serializeState({ sync, known, from }: SyncState): string {
  return PREFIX + JSON.stringify({ sync, known: serializeAssignedUids(known), from });
}
