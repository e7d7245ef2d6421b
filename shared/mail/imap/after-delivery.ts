/** Marks, deletes or moves messages on the server after their delivery. */
import type { FetchMessageObject, MailboxObject } from "imapflow";
import type { AfterDeliveryAction } from "../../contract/mailbox.ts";
import type { MessageRef } from "../../contract/message.ts";
import { Problem } from "../../contract/problem.ts";
import type { KeptMessage } from "../mail.ts";
import { isSameEpoch } from "./epoch.ts";
import { getServerDate, toSequenceSet } from "./rows.ts";
import type { Session } from "./session.ts";

/** `applyAfterDelivery` of MailConnection over an open connection. */
export async function applyAfterDelivery(
  session: Session,
  messages: MessageRef[],
  action: AfterDeliveryAction,
  signal: AbortSignal,
): Promise<KeptMessage[]> {
  const kept: KeptMessage[] = [];
  for (const [folder, refs] of Map.groupBy(messages, (ref) => ref.folder)) {
    const work = async (box: MailboxObject) => {
      const present = refs.filter((ref) => isSameEpoch(ref.epoch, box));
      for (const ref of refs) if (!present.includes(ref)) kept.push({ ref, reason: RENUMBERED });
      const uids = await filterUnchanged(session, present, kept);
      if (uids.length > 0) await performAction(session, uids, action);
    };
    await session.runInFolder(folder, `Marking, moving or deleting in ${folder}`, work, signal, { current: true });
  }
  return kept;
}

const RENUMBERED = "unchanged on the mail server: its folder was renumbered after the delivery";
const CHANGED = "unchanged on the mail server: its uid now belongs to a message of another size or date";
const UNPROVEN = "unchanged on the mail server: the server reports neither its size nor its date";

/**
 * The uids of those messages that the folder still has and that are still the delivered ones, ascending. A server that
 * was restored from a backup may give a uid to another message under the same UIDVALIDITY. The others go into `kept`.
 * Throws, so that the task is repeated, if the server has a message but returns no row for it.
 */
async function filterUnchanged(session: Session, refs: MessageRef[], kept: KeptMessage[]): Promise<number[]> {
  if (refs.length === 0) return [];
  const range = toSequenceSet(refs.map((ref) => ref.uid).toSorted((a, b) => a - b));
  const rows = new Map<number, FetchMessageObject>();
  for await (const row of session.client.fetch(range, { uid: true, size: true, internalDate: true }, { uid: true }))
    // A row of somebody's change of flags has neither.
    if (row.uid && (row.size !== undefined || row.internalDate !== undefined)) rows.set(row.uid, row);
  const unanswered = refs.filter((ref) => !rows.has(ref.uid)).map((ref) => ref.uid);
  const existing = await filterExisting(session, unanswered);
  if (existing.length > 0)
    throw new Problem("protocol", `The server has the messages ${existing.join(", ")} but gives no row for them`);
  const unchanged: number[] = [];
  for (const ref of refs) {
    const row = rows.get(ref.uid);
    const same = row && isSameMessage(ref, row);
    if (same) unchanged.push(ref.uid);
    else if (row) kept.push({ ref, reason: same === undefined ? UNPROVEN : CHANGED });
  }
  return unchanged.toSorted((a, b) => a - b);
}

/** Whether size and date of a row are the known ones; undefined if nothing can be compared. */
function isSameMessage(ref: MessageRef, row: FetchMessageObject): boolean | undefined {
  const receivedAt = getServerDate(row);
  const sizes = ref.size > 0 && row.size ? ref.size === row.size : undefined;
  const dates = ref.undated || receivedAt === undefined ? undefined : Date.parse(ref.receivedAt) === receivedAt;
  return sizes === undefined && dates === undefined ? undefined : sizes !== false && dates !== false;
}

/** Those of the uids that the folder still has, ascending. */
async function filterExisting(session: Session, uids: number[]): Promise<number[]> {
  if (uids.length === 0) return [];
  const range = toSequenceSet(uids.toSorted((a, b) => a - b));
  const found = await session.client.search({ uid: range }, { uid: true });
  // Some servers (GNU Mailutils) name the next message where there is none with that uid.
  return Array.isArray(found) ? found.filter((uid) => uids.includes(uid)).toSorted((a, b) => a - b) : uids;
}

async function performAction(session: Session, uids: number[], action: AfterDeliveryAction): Promise<void> {
  const { client } = session;
  const range = toSequenceSet(uids);
  if (action === "markRead")
    return requireSuccess(await client.messageFlagsAdd(range, ["\\Seen"], { uid: true }), "mark");
  if (action === "delete" || "deleteAfterDays" in action) return deleteMessages(session, uids);
  if ("keyword" in action) return addKeyword(session, range, action.keyword);
  const target = await resolveTarget(session, action.move);
  const canMove = client.capabilities.has("MOVE");
  const moveMessages = () =>
    canMove ? client.messageMove(range, target, { uid: true }) : client.messageCopy(range, target, { uid: true });
  // Most servers answer TRYCREATE, some do not. The folder is created, and the move is tried again.
  const moved = (await moveMessages()) || ((await createFolder(session, target)) && (await moveMessages()));
  requireSuccess(moved, `move to ${action.move}`);
  if (!canMove) await deleteMessages(session, uids);
}

/** A label if the server has labels (Gmail), else a keyword. If the folder accepts no new keywords, nothing changes. */
async function addKeyword(session: Session, range: string, keyword: string): Promise<void> {
  const { client } = session;
  const useLabels = client.capabilities.has("X-GM-EXT-1");
  const allowed = client.mailbox && client.mailbox.permanentFlags;
  if (!useLabels && allowed && !allowed.has("\\*") && !allowed.has(keyword)) return;
  requireSuccess(await client.messageFlagsAdd(range, [keyword], { uid: true, useLabels }), `mark with ${keyword}`);
}

/** The server's own name for a folder that may not exist yet. */
async function resolveTarget(session: Session, folder: string): Promise<string> {
  return cannotExist(folder) ? folder : session.resolvePath(folder);
}

function cannotExist(folder: string): boolean {
  return /[\r\n\0]/.test(folder);
}

async function createFolder(session: Session, folder: string): Promise<boolean> {
  if (cannotExist(folder)) return false;
  return (await session.client.mailboxCreate(folder)).created;
}

/**
 * Deletes only these messages. Plain EXPUNGE would also remove messages that other clients marked (RFC 4315 section 1).
 * So without UIDPLUS the messages stay marked as deleted while marks of others exist.
 */
async function deleteMessages(session: Session, uids: number[]): Promise<void> {
  const { client } = session;
  const range = toSequenceSet(uids);
  if (!client.capabilities.has("UIDPLUS")) {
    const marked = await client.search({ deleted: true }, { uid: true });
    const ours = new Set(uids);
    const othersMarked = !Array.isArray(marked) || marked.some((uid) => !ours.has(uid));
    if (othersMarked)
      return requireSuccess(await client.messageFlagsAdd(range, ["\\Deleted"], { uid: true }), "mark as deleted");
  }
  requireSuccess(await client.messageDelete(range, { uid: true }), "delete");
}

function requireSuccess(result: unknown, what: string): void {
  if (!result) throw new Problem("protocol", `The server did not ${what} the messages`);
}
