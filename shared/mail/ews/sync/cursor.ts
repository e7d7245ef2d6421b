/** What a cursor of an Exchange folder holds beside its number: the server's sync state, and which messages have which numbers. */
import * as v from "valibot";
import { type Known, readKnown, writtenKnown } from "../../assigned-uids.ts";

/**
 * `sync` is the server's, empty before the first comparison. `known` has the last messages handed over (numbers up to the cursor's) and
 * those that have a number already (above it). `from`, in milliseconds since 1970, while a folder is read from its beginning: what was
 * received before it is not handed over.
 */
export type SyncState = { sync: string; known: Known; from: number | null };

const Written = v.strictObject({ sync: v.string(), known: v.string(), from: v.nullable(v.number()) });
const FORM = "ews-1:";

/** A cursor's state read; undefined where another protocol wrote it. */
export function readState(state: string | null): SyncState | undefined {
  if (state === null || !state.startsWith(FORM)) return undefined;
  const { sync, known, from } = v.parse(Written, JSON.parse(state.slice(FORM.length)));
  return { sync, known: readKnown(known), from };
}

/** The state to keep with a cursor. */
export function writtenState({ sync, known, from }: SyncState): string {
  return FORM + JSON.stringify({ sync, known: writtenKnown(known), from });
}
