/** An outgoing message as a draft in the mailbox: complete, with every recipient, and not sent yet. */
import * as v from "valibot";
import { Problem } from "../../../contract/problem.ts";
import { type Attachment, splitMessage } from "../../exchange/split.ts";
import { base64Body } from "../../http/request-body.ts";
import { listRows, quoteText, withQuery } from "../client/pages.ts";
import { isNotFound } from "../client/errors.ts";
import type { GraphSession } from "../client/session.ts";

/** `bcc`: recipients that no header names. `from` is set if it is not the mailbox's own address. */
export type Draft = { raw: Buffer; messageId: string | null; bcc: string[]; from: string | null };

/** A request may have 4 MB, and base64 makes four letters of three bytes. */
export const MAX_REQUEST_BYTES = 2_900_000;
/** Graph takes smaller files only as a part of a request. */
const MIN_UPLOAD_BYTES = 3_000_000;
/** Pieces are multiples of 320 KiB, and at most 4 MB. */
const PIECE_BYTES = 12 * 320 * 1024;

const Created = v.object({ id: v.pipe(v.string(), v.minLength(1)) });
const DraftRow = v.object({ id: v.string(), isDraft: v.nullish(v.boolean()) });
const UploadSession = v.object({ uploadUrl: v.string() });

/**
 * Creates the draft with all its attachments and returns its id. First it deletes drafts of the same message that a crash
 * left behind. If it cannot finish the new draft, it deletes it.
 */
export async function createDraft(session: GraphSession, draft: Draft, signal: AbortSignal): Promise<string> {
  const isLarge = draft.raw.length > MAX_REQUEST_BYTES;
  const { rest, attachments } = isLarge
    ? splitMessage(draft.raw, MAX_REQUEST_BYTES)
    : { rest: draft.raw, attachments: [] };
  if (rest.length > MAX_REQUEST_BYTES)
    throw new Problem("refused", "The message is larger than Graph allows, and its attachments cannot be taken out", {
      retry: "never",
    });
  if (draft.messageId !== null) await deleteDraftsOf(session, draft.messageId, signal);
  const order = { body: base64Body(rest), contentType: "text/plain", shape: Created } as const;
  const { id } = await session.create("Creating a draft", `${session.base}/messages`, order, signal);
  try {
    await completeDraft(session, id, { draft, attachments }, signal);
    return id;
  } catch (error) {
    // The next attempt finds whatever remains.
    await deleteDraft(session, id, signal).catch(() => undefined);
    throw error;
  }
}

const toRecipient = (address: string) => ({ emailAddress: { address } });

async function completeDraft(
  session: GraphSession,
  id: string,
  { draft, attachments }: { draft: Draft; attachments: Attachment[] },
  signal: AbortSignal,
): Promise<void> {
  const { bcc, from } = draft;
  const body = {
    ...(bcc.length > 0 && { bccRecipients: bcc.map(toRecipient) }),
    ...(from !== null && { from: toRecipient(from) }),
  };
  const path = draftPath(session, id);
  if (Object.keys(body).length > 0)
    await session.change({ what: "Completing a draft", method: "PATCH", path, body }, signal);
  for (const file of attachments) await attach(session, path, file, signal);
}

async function attach(session: GraphSession, path: string, file: Attachment, signal: AbortSignal): Promise<void> {
  const bytes = file.bytes();
  const { name, contentType, contentId, inline: isInline } = file;
  const shared = { name, contentType, isInline, ...(contentId !== null && { contentId }) };
  if (bytes.length < MIN_UPLOAD_BYTES) {
    const contentBytes = bytes.toString("base64");
    const body = { "@odata.type": "#microsoft.graph.fileAttachment", ...shared, contentBytes };
    return session.submit("Adding an attachment", `${path}/attachments`, { body }, signal);
  }
  const item = { attachmentType: "file", ...shared, size: bytes.length };
  const order = { body: { AttachmentItem: item }, shape: UploadSession };
  const target = `${path}/attachments/createUploadSession`;
  const { uploadUrl } = await session.create("Beginning an upload", target, order, signal);
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
    const piece = bytes.subarray(at, at + PIECE_BYTES);
    const range = `bytes ${at}-${at + piece.length - 1}/${bytes.length}`;
    await session.putPiece(uploadUrl, { bytes: piece, range }, signal);
  }
}

async function deleteDraftsOf(session: GraphSession, messageId: string, signal: AbortSignal): Promise<void> {
  const path = withQuery(`${session.base}/mailFolders/drafts/messages`, {
    $filter: `internetMessageId eq ${quoteText(messageId)}`,
    $select: "id,isDraft",
  });
  const list = { what: "Searching drafts", path, row: DraftRow };
  for (const { id, isDraft } of await Array.fromAsync(listRows(session, list, signal)))
    if (isDraft === true) await deleteDraft(session, id, signal);
}

export async function deleteDraft(session: GraphSession, id: string, signal: AbortSignal): Promise<void> {
  try {
    await session.change({ what: "Deleting a draft", method: "DELETE", path: draftPath(session, id) }, signal);
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}

const Moved = v.object({ isDraft: v.boolean() });

/**
 * Takes a draft back that was not sent, and deletes it. False if it was sent all the same: then it is in Sent Items. Only
 * the answer to a move is proof, because reading may show an old view of the mailbox.
 */
export async function takeBackDraft(session: GraphSession, id: string, signal: AbortSignal): Promise<boolean> {
  const path = `${draftPath(session, id)}/move`;
  const moveTo = (destinationId: string) =>
    session.create("Taking a draft back", path, { body: { destinationId }, shape: Moved }, signal);
  const { isDraft } = await moveTo("deleteditems");
  // What it is, is known now. If this fails, it stays among the deleted items.
  await (isDraft ? deleteDraft(session, id, signal) : moveTo("sentitems")).catch(() => undefined);
  return isDraft;
}

export function draftPath({ base }: GraphSession, id: string): string {
  return `${base}/messages/${encodeURIComponent(id)}`;
}
