/** Puts messages into folders: finds the Sent folder, and puts a copy there once. */
import type { MailboxObject } from "imapflow";
import { Problem } from "../../../contract/problem.ts";
import { withoutGiven } from "../../../evidence/evidence.ts";
import type { PlacedCopy } from "../../../contract/task.ts";
import type { MessageToAppend } from "../../mail.ts";
import { listFolders } from "../folders.ts";
import type { Session } from "../session.ts";

/** The name of the Sent folder that is created if there is none. */
const SENT_FOLDER = "Sent";

/**
 * The folder that the server marks as `\Sent` (RFC 6154), or whose name means that in one of many languages. It is
 * created if there is none. Null for Gmail, which keeps sent mail by itself.
 */
export async function getSentFolder(session: Session, signal: AbortSignal): Promise<string | null> {
  const { client } = session;
  if (client.capabilities.has("X-GM-EXT-1")) return null;
  const sent = (await listFolders(session, signal)).find((one) => one.specialUse === "\\Sent" && one.selectable);
  if (sent) return sent.path;
  // The server may want its folders below another name ("INBOX.Sent").
  const path = `${session.personalPrefix}${SENT_FOLDER}`;
  return (await session.runExclusive(`CREATE ${path}`, () => client.mailboxCreate(path), signal)).path;
}

/** `append` of MailConnection: searches the message and puts it into the folder in one turn. */
export async function appendMessage(
  session: Session,
  folder: string,
  message: MessageToAppend,
  signal: AbortSignal,
): Promise<false | PlacedCopy> {
  const { client } = session;
  const { messageIds, flags } = message;
  const work = async (box: MailboxObject) => {
    if (box.exists > 0) {
      // NOOP shows what another session put into the folder since it was opened.
      await client.noop();
      for (const id of messageIds) {
        const found = await client.search({ header: { "message-id": id } }, { uid: true });
        if (!Array.isArray(found)) throw new Problem("protocol", `The server did not search ${folder} for the copy`);
        if (found.length > 0) return false;
      }
    }
    const appended = await client.append(folder, Buffer.from(message.raw), flags, message.date);
    if (!appended) throw new Problem("protocol", `The server did not accept the copy into ${folder}`);
    const { uid = null, uidValidity } = appended;
    return { folder, epoch: uidValidity === undefined ? null : String(uidValidity), uid, messageIds, flags };
  };
  try {
    return await session.runInFolder(folder, `APPEND ${folder}`, work, signal);
  } catch (error) {
    throw withoutGiven(error, { secrets: [], message: message.raw });
  }
}
