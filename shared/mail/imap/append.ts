/** Putting messages into folders: where sent mail belongs, and a copy that is put there once. */
import type { MailboxObject } from "imapflow";
import { Problem } from "../../contract/problem.ts";
import type { Filed } from "../mail.ts";
import { listFolders } from "./folders.ts";
import type { Session } from "./session.ts";

/** Where there is no folder for sent mail, one of this name is made. */
const SENT = "Sent";

/**
 * The folder that the server marks as `\Sent` (RFC 6154), or that is named like one in any of many languages; made when there is
 * none. Null for Gmail, which files what goes out by itself.
 */
export async function sentFolderOver(session: Session, signal: AbortSignal): Promise<string | null> {
  const { client } = session;
  if (client.capabilities.has("X-GM-EXT-1")) return null;
  const sent = (await listFolders(session, signal)).find((one) => one.specialUse === "\\Sent" && one.selectable);
  if (sent) return sent.path;
  return (await session.ask(`CREATE ${SENT}`, () => client.mailboxCreate(SENT), signal)).path;
}

/** The append of MailConnection: one turn of looking for the message and putting it there. */
export async function appendOver(session: Session, folder: string, message: Filed, signal: AbortSignal): Promise<void> {
  const { client } = session;
  const work = async (box: MailboxObject) => {
    if (box.exists > 0) {
      // What another session put there since the folder was opened shows only after a word.
      await client.noop();
      for (const id of message.messageIds) {
        const found = await client.search({ header: { "message-id": id } }, { uid: true });
        if (Array.isArray(found) && found.length > 0) return;
      }
    }
    const done = await client.append(folder, Buffer.from(message.raw), message.flags, message.date);
    if (!done) throw new Problem("protocol", `The server did not take the copy into ${folder}`);
  };
  await session.inFolder(folder, `APPEND ${folder}`, work, signal);
}
