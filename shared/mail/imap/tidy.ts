/** What happens on the server once an endpoint has accepted messages: marked, deleted or moved. */
import type { MailboxObject } from "imapflow";
import type { Tidying } from "../../contract/mailbox.ts";
import type { MessageRef } from "../../contract/message.ts";
import { Problem } from "../../contract/problem.ts";
import { compact } from "./reconcile.ts";
import type { Session } from "./session.ts";

/** The tidy of MailConnection over an open connection. Messages of a renumbered folder count as gone. */
export async function tidyOver(
  session: Session,
  messages: MessageRef[],
  action: Tidying,
  signal: AbortSignal,
): Promise<void> {
  for (const [folder, refs] of Map.groupBy(messages, (ref) => ref.folder)) {
    const work = async (box: MailboxObject) => {
      const here = refs.filter((ref) => ref.epoch === String(box.uidValidity)).map((ref) => ref.uid);
      const uids = await existing(session, here);
      if (uids.length > 0) await perform(session, uids, action);
    };
    await session.inFolder(folder, `Tidying ${folder}`, work, signal, { current: true });
  }
}

/** Those of the uids that the folder still has, ascending. */
async function existing(session: Session, uids: number[]): Promise<number[]> {
  if (uids.length === 0) return [];
  const range = compact(uids.toSorted((a, b) => a - b));
  const found = await session.client.search({ uid: range }, { uid: true });
  return Array.isArray(found) ? found.toSorted((a, b) => a - b) : uids;
}

async function perform(session: Session, uids: number[], action: Tidying): Promise<void> {
  const { client } = session;
  const range = compact(uids);
  if (action === "markRead") return done(await client.messageFlagsAdd(range, ["\\Seen"], { uid: true }), "mark");
  if (action === "delete" || "deleteAfterDays" in action) return remove(session, uids);
  if ("keyword" in action) return label(session, range, action.keyword);
  const canMove = client.capabilities.has("MOVE");
  const give = () =>
    canMove
      ? client.messageMove(range, action.move, { uid: true })
      : client.messageCopy(range, action.move, { uid: true });
  // Most servers refuse with TRYCREATE, some without: the folder is made and the messages are given once more.
  const given = (await give()) || ((await created(session, action.move)) && (await give()));
  done(given, `move to ${action.move}`);
  if (!canMove) await remove(session, uids);
}

/** A label where the server has them (Gmail), else a keyword; a folder that takes no keywords of its own is left as it is. */
async function label(session: Session, range: string, word: string): Promise<void> {
  const { client } = session;
  const useLabels = client.capabilities.has("X-GM-EXT-1");
  const allowed = client.mailbox && client.mailbox.permanentFlags;
  if (!useLabels && allowed && !allowed.has("\\*") && !allowed.has(word)) return;
  done(await client.messageFlagsAdd(range, [word], { uid: true, useLabels }), `mark with ${word}`);
}

async function created(session: Session, folder: string): Promise<boolean> {
  if (/[\r\n\0]/.test(folder)) return false;
  return (await session.client.mailboxCreate(folder)).created;
}

/**
 * Deletes these messages and no others. Plain EXPUNGE would also remove what other clients marked (RFC 4315 section 1): without
 * UIDPLUS the messages stay marked as deleted while anybody else's are.
 */
async function remove(session: Session, uids: number[]): Promise<void> {
  const { client } = session;
  const range = compact(uids);
  if (!client.capabilities.has("UIDPLUS")) {
    const marked = await client.search({ deleted: true }, { uid: true });
    const ours = new Set(uids);
    const foreign = !Array.isArray(marked) || marked.some((uid) => !ours.has(uid));
    if (foreign) return done(await client.messageFlagsAdd(range, ["\\Deleted"], { uid: true }), "mark as deleted");
  }
  done(await client.messageDelete(range, { uid: true }), "delete");
}

function done(result: unknown, what: string): void {
  if (!result) throw new Problem("protocol", `The server did not ${what} the messages`);
}
