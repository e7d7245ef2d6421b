/** Two copies of one sent message in a folder: the one that the service put there is taken away again, if nothing is lost by it. */
import type { FetchMessageObject, MailboxObject } from "imapflow";
import type { PlacedCopy } from "../../../contract/task.ts";
import type { CopyVerdict } from "../../mail.ts";
import { epochOf } from "../epoch.ts";
import { search, toSequenceSet } from "../rows.ts";
import type { Session } from "../session.ts";

/** More copies than this come from something that nobody understands; then nothing is removed. */
const MOST_COPIES = 5;
/** How much larger the other copy may be: servers add lines to the header. */
const MOST_ADDED_BYTES = 64 * 1024;
const MAX_DOWNLOAD_MS = 10 * 60 * 1000;

/**
 * `checkCopy` of MailConnection. A copy of somebody else counts if it came after ours, because `append` had found none
 * before. Of two copies that the service itself made at the same time the later one therefore stays.
 */
export function checkCopy(session: Session, copy: PlacedCopy, signal: AbortSignal): Promise<CopyVerdict> {
  const work = async (box: MailboxObject): Promise<CopyVerdict> => {
    if (copy.epoch !== null && epochOf(box, undefined) !== copy.epoch) return "unclear";
    const found = await searchIds(session, copy.messageIds);
    // Without UIDPLUS nobody knows which one is ours, and nothing can be removed without the marks of others.
    const { uid } = copy;
    if (uid === null) return found.length > 1 ? "kept" : "alone";
    const later = found.filter((one) => one > uid);
    if (!found.includes(uid)) return later.length > 0 ? "kept" : "unclear";
    if (later.length === 0) return "alone";
    if (later.length > MOST_COPIES || !(await isRepeated(session, copy, uid, later))) return "kept";
    const removed = await session.client.messageDelete(String(uid), { uid: true });
    return removed ? "removed" : "kept";
  };
  const options = { capMs: MAX_DOWNLOAD_MS, current: true };
  return session.runInFolder(copy.folder, `Looking for copies in ${copy.folder}`, work, signal, options);
}

async function searchIds(session: Session, ids: string[]): Promise<number[]> {
  const uids = new Set<number>();
  for (const id of ids)
    for (const uid of (await search(session, { header: { "message-id": id } })) ?? []) uids.add(uid);
  return [...uids];
}

/** Whether one of the later messages says all that ours says, and a person has done nothing with ours. */
async function isRepeated(session: Session, copy: PlacedCopy, uid: number, later: number[]): Promise<boolean> {
  if (!session.client.capabilities.has("UIDPLUS")) return false;
  const about = { uid: true, flags: true, size: true } as const;
  const rows = await rowsOf(session, [uid, ...later], about);
  const ours = rows.get(uid);
  if (!ours || !isUntouched(ours, copy.flags)) return false;
  const size = ours.size ?? 0;
  const alike = later.filter((one) => {
    const row = rows.get(one);
    const added = (row?.size ?? 0) - size;
    return row !== undefined && !row.flags?.has("\\Deleted") && Math.abs(added) <= MOST_ADDED_BYTES;
  });
  session.expectContent((alike.length + 1) * (size + MOST_ADDED_BYTES));
  const sources = await rowsOf(session, [uid, ...alike], { uid: true, source: true });
  const own = sources.get(uid)?.source;
  return (
    own !== undefined &&
    alike.some((one) => {
      const other = sources.get(one)?.source;
      return other !== undefined && saysTheSame(own, other, copy.messageIds);
    })
  );
}

async function rowsOf(session: Session, uids: number[], query: object): Promise<Map<number, FetchMessageObject>> {
  const rows = new Map<number, FetchMessageObject>();
  const range = toSequenceSet(uids.toSorted((a, b) => a - b));
  for await (const row of session.client.fetch(range, query, { uid: true }))
    rows.set(row.uid, { ...rows.get(row.uid), ...row });
  return rows;
}

function isUntouched({ flags }: FetchMessageObject, asPut: string[]): boolean {
  return flags !== undefined && [...flags].every((flag) => asPut.includes(flag) || flag === "\\Recent");
}

/**
 * Whether the other message has the same body, and each header field of ours with the same value. It may have more
 * fields, and any of the Message-IDs that the message went out with.
 */
export function saysTheSame(ours: Buffer, other: Buffer, messageIds: string[]): boolean {
  const [own, theirs] = [splitMessage(ours), splitMessage(other)];
  if (own.body !== theirs.body) return false;
  const has = new Set(theirs.fields);
  const ids = messageIds.map((id) => `message-id:${id}`);
  return own.fields.every(
    (field) => has.has(field) || (field.startsWith("message-id:") && ids.some((id) => has.has(id))),
  );
}

/** The header fields without folds and with single spaces, and the body with the same ends of lines in every message. */
function splitMessage(raw: Buffer): { fields: string[]; body: string } {
  const text = raw.toString("latin1").replaceAll("\r\n", "\n");
  const end = text.indexOf("\n\n");
  const head = end < 0 ? text : text.slice(0, end);
  const fields: string[] = [];
  for (const line of head.split("\n")) {
    const folded = line.startsWith(" ") || line.startsWith("\t");
    if (folded && fields.length > 0) fields.push(`${fields.pop()} ${line}`);
    else fields.push(line);
  }
  return { fields: fields.map(normalizeField), body: end < 0 ? "" : text.slice(end + 2).trimEnd() };
}

function normalizeField(line: string): string {
  const colon = line.indexOf(":");
  const words = line.slice(colon + 1).split(/[ \t]+/);
  return `${line.slice(0, colon).toLowerCase()}:${words.filter((word) => word !== "").join(" ")}`;
}
