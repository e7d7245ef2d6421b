/**
 * A message that is too large for one request: created as a draft, attachment by attachment, and sent only when it is
 * complete.
 */
import { Problem } from "../../../contract/problem.ts";
import { findElements, type XmlElement, findElement } from "../soap/elements.ts";
import { executeOperation, itemsXml } from "../client/operations.ts";
import { executeOnce, type SendContext } from "./exchange-send.ts";
import { attachFile, type Draft, findDrafts, type ItemRef, saveDraft } from "./operations.ts";
import { splitMessage } from "../../exchange/split.ts";

/**
 * Creates the message as a draft with all its attachments; nothing is sent. First it deletes drafts of the same sending
 * that a crash left behind. If it cannot finish the new draft, it deletes it. `maxBytes` limits the message without its
 * attachments.
 */
export async function uploadDraft(
  context: SendContext,
  draft: Draft,
  maxBytes: number,
  signal: AbortSignal,
): Promise<ItemRef> {
  await deleteDrafts(context, draft.id, signal);
  const { rest, attachments } = splitMessage(draft.raw, maxBytes);
  if (rest.length > maxBytes)
    throw new Problem(
      "refused",
      "The message is larger than Exchange allows, and its attachments cannot be taken out",
      {
        retry: "never",
      },
    );
  let item = getItemRef(await executeOnce(context, saveDraft(context.session, { ...draft, raw: rest }), signal));
  try {
    for (const file of attachments) {
      item = getRootItemRef(await executeOnce(context, attachFile(item, file), signal)) ?? item;
    }
    return item;
  } catch (error) {
    // The next attempt finds whatever remains.
    await deleteItems(context, [item.id], signal).catch(() => undefined);
    throw error;
  }
}

/** Deletes the drafts with the sending's id. */
export async function deleteDrafts(context: SendContext, sendingId: string, signal: AbortSignal): Promise<void> {
  const found = await executeOperation(context.session, findDrafts(context.session, sendingId), signal);
  const ids = findElements(found, "ItemId").map(({ attributes }) => attributes["Id"] ?? "");
  if (ids.length > 0) await deleteItems(context, ids, signal);
}

async function deleteItems({ session }: SendContext, ids: string[], signal: AbortSignal): Promise<void> {
  await executeOperation(
    session,
    { name: "DeleteItem", attributes: ' DeleteType="HardDelete"', content: itemsXml(ids) },
    signal,
  );
}

function getItemRef(answer: XmlElement): ItemRef {
  const { Id: id, ChangeKey: changeKey } = findElement(answer, "ItemId")?.attributes ?? {};
  if (id === undefined) throw new Problem("protocol", "Exchange created a draft without returning its id");
  return { id, changeKey: changeKey ?? "" };
}

/** Each attachment changes the draft, and only its newest change key may be sent. */
function getRootItemRef(answer: XmlElement): ItemRef | undefined {
  const { RootItemId: id, RootItemChangeKey: changeKey } = findElement(answer, "AttachmentId")?.attributes ?? {};
  return id === undefined ? undefined : { id, changeKey: changeKey ?? "" };
}
