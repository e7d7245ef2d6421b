/** Messages as Graph lists them: what is asked for, and what it means. */
import * as v from "valibot";
import type { GraphSession } from "../client/session.ts";
import { isNotFound } from "../client/errors.ts";
import { withQuery } from "../client/pages.ts";
import { isCredibleDate } from "../../since.ts";

/** A message. `receivedAt` in milliseconds since 1970; null without a date that can be true. */
export type SyncItem = { key: string; size: number; receivedAt: number | null };

export const SELECT = "id,receivedDateTime,parentFolderId,isDraft";

/** A row of a list or of a delta. A delta may leave out anything but the id. */
export const MessageRow = v.object({
  id: v.pipe(v.string(), v.minLength(1)),
  receivedDateTime: v.nullish(v.string()),
  parentFolderId: v.nullish(v.string()),
  isDraft: v.nullish(v.boolean()),
  "@removed": v.nullish(v.unknown()),
});
export type MessageRow = v.InferOutput<typeof MessageRow>;

/**
 * The row as a message; undefined if it is a draft, or left its folder. Graph does not say the size of a message in a
 * list, so it is 0 for unknown.
 */
export function toSyncItem(row: MessageRow): SyncItem | undefined {
  if (row["@removed"] != null || row.isDraft === true) return undefined;
  const at = Date.parse(row.receivedDateTime ?? "");
  return { key: row.id, size: 0, receivedAt: isCredibleDate(at) ? at : null };
}

/** True if Graph left out what was asked for, because only something else of the message changed. */
export function isThinned(row: MessageRow): boolean {
  return row["@removed"] == null && (row.receivedDateTime == null || row.isDraft == null);
}

/** The whole row of a message. Undefined if it is no longer in this folder. */
export async function readRow(
  session: GraphSession,
  { id, folder }: { id: string; folder: string },
  signal: AbortSignal,
): Promise<MessageRow | undefined> {
  const path = withQuery(`${session.base}/messages/${encodeURIComponent(id)}`, { $select: SELECT });
  try {
    const row = await session.get("Reading a message's properties", path, MessageRow, signal);
    return row.parentFolderId == null || row.parentFolderId === folder ? row : undefined;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}
