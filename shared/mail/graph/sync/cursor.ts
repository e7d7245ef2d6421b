/** The state in the cursor of a Graph folder: where the comparison goes on, and the numbers of messages. */
import * as v from "valibot";
import { type AssignedUids, parseAssignedUids, serializeAssignedUids } from "../../assigned-uids.ts";

const Stored = v.strictObject({
  /** Graph's link to the next page or for the next round; null before the first page. */
  link: v.nullable(v.string()),
  /** When the link for the next round was stored, in milliseconds since 1970. */
  stored: v.number(),
  /** The link for the last round that came to its end, to go back to when the link to a page is dead. */
  round: v.nullable(v.string()),
  /**
   * Set while a folder is read from its beginning, in milliseconds since 1970: messages received before are not handed
   * over.
   */
  from: v.nullable(v.number()),
  /**
   * While a round is under way, when the newest message was received that was handed over before it (ms since 1970): if
   * the round cannot be ended, the folder is read again from a little before that.
   */
  floor: v.nullable(v.number()),
  /** Messages received before are never handed over. */
  since: v.number(),
  /**
   * A filtered round ends in silence after 5,000 messages. So its filter (ms since 1970; null without one), its beginning
   * and the number of messages that came through it are known.
   */
  filter: v.nullable(v.object({ from: v.number(), begun: v.number(), seen: v.number() })),
  /** Set while messages are listed by date: those received at or after it are still to be listed. */
  listing: v.nullable(v.number()),
  /** Hashes of messages that lay in the folder just before `since`; Graph may show them again when somebody reads them. */
  passed: v.array(v.string()),
  known: v.string(),
  /** The cursor's uid when the folder moved here from Exchange Web Services: nothing was handed over since while it stays. */
  movedAt: v.exactOptional(v.number()),
});

/**
 * `known` has the numbers of the last messages that were handed over (up to the cursor's uid) and of those that have a
 * number but were not handed over yet (above it).
 */
export type GraphState = Omit<v.InferOutput<typeof Stored>, "known"> & { known: AssignedUids };

const PREFIX = "graph-1:";

/** False for the state that another protocol wrote. */
export function isOwnState(state: string | null): state is string {
  return state?.startsWith(PREFIX) === true;
}

/** Parses a cursor's state. Undefined if another protocol wrote it. */
export function parseState(state: string | null): GraphState | undefined {
  if (!isOwnState(state)) return undefined;
  const { known, ...rest } = v.parse(Stored, JSON.parse(state.slice(PREFIX.length)));
  return { ...rest, known: parseAssignedUids(known) };
}

/** Serializes the state for a cursor. */
export function serializeState({ known, ...rest }: GraphState): string {
  return PREFIX + JSON.stringify({ ...rest, known: serializeAssignedUids(known) });
}
