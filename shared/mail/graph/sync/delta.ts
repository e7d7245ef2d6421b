/** messages/delta: what appeared in a folder since a link that Graph gave, page by page. */
import { Problem } from "../../../contract/problem.ts";
import { isDeadLink, isMailboxFull, isNotFound } from "../client/errors.ts";
import { pageOf, withQuery } from "../client/pages.ts";
import type { GraphSession } from "../client/session.ts";
import { MessageRow, SELECT } from "./messages.ts";

/** Rows, and the link after them: to the next page, or for the next round. */
export type DeltaPage = { rows: MessageRow[]; link: string; isRoundEnd: boolean };

/** Why there is no page: the link is dead, the folder is gone, or the mailbox is full. */
type NoPage = "dead" | "missing" | "full";

/** The link to continue from, or the beginning of a new round: for messages received at or after `filter`, or for all. */
export type DeltaStart = { link: string } | { filter: number | null };

/** The page size is no part of a link. So each request has it. */
const PREFER = { prefer: "odata.maxpagesize=200" };
const MessagePage = pageOf(MessageRow);

/** The next page of a folder. Throws the Problem of every other failure. */
export async function readDeltaPage(
  session: GraphSession,
  folder: string,
  start: DeltaStart,
  signal: AbortSignal,
): Promise<DeltaPage | NoPage> {
  const place = "link" in start ? { link: start.link } : firstPath(session, folder, start.filter);
  try {
    const page = await session.get("Comparing a folder", place, MessagePage, signal, { headers: PREFER });
    const [next, delta] = [page["@odata.nextLink"], page["@odata.deltaLink"]];
    const link = next ?? delta;
    if (link === undefined) throw new Problem("protocol", "Microsoft Graph ended a comparison without a link");
    return { rows: page.value, link, isRoundEnd: next === undefined };
  } catch (error) {
    if (isDeadLink(error)) return "dead";
    if (isMailboxFull(error)) return "full";
    if (isNotFound(error)) return "missing";
    throw error;
  }
}

function firstPath({ base }: GraphSession, folder: string, filter: number | null): string {
  return withQuery(`${base}/mailFolders/${encodeURIComponent(folder)}/messages/delta`, {
    $select: SELECT,
    changeType: "created",
    $filter: filter === null ? undefined : `receivedDateTime ge ${new Date(filter).toISOString()}`,
  });
}
