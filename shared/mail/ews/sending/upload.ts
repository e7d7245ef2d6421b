/** A message that is too large for one request: made as a draft, file by file, and sent only when it is whole. */
import { Problem } from "../../../contract/problem.ts";
import { allWithin, type Element, within } from "../soap/elements.ts";
import { answerTo, itemsXml } from "../client/operations.ts";
import { done, type Wire } from "./exchange-send.ts";
import { attachFile, type Draft, findDrafts, type ItemRef, saveDraft } from "./operations.ts";
import { split } from "./split.ts";

/**
 * The message as a draft with all its files; nothing is sent. Drafts of the same sending that a crash left behind are deleted first, and
 * the new one is deleted when it cannot be finished. `most` is how many bytes the message may have without its files.
 */
export async function uploaded(wire: Wire, draft: Draft, most: number, signal: AbortSignal): Promise<ItemRef> {
  await discard(wire, draft.id, signal);
  const { rest, files } = await split(draft.raw, most);
  if (rest.length > most)
    throw new Problem("refused", "The message is larger than Exchange takes, and its parts cannot be sent one by one", {
      retry: "never",
    });
  let item = refIn(await done(wire, saveDraft(wire.session, { ...draft, raw: rest }), signal));
  try {
    for (const file of files) {
      item = rootIn(await done(wire, attachFile(item, file), signal)) ?? item;
    }
    return item;
  } catch (error) {
    // Whatever remains is found by the next attempt.
    await deleted(wire, [item.id], signal).catch(() => undefined);
    throw error;
  }
}

/** Deletes the drafts that carry the sending's id. */
export async function discard(wire: Wire, sending: string, signal: AbortSignal): Promise<void> {
  const found = await answerTo(wire.session, findDrafts(wire.session, sending), signal);
  const ids = allWithin(found, "ItemId").map(({ attributes }) => attributes["Id"] ?? "");
  if (ids.length > 0) await deleted(wire, ids, signal);
}

async function deleted({ session }: Wire, ids: string[], signal: AbortSignal): Promise<void> {
  await answerTo(
    session,
    { name: "DeleteItem", attributes: ' DeleteType="HardDelete"', content: itemsXml(ids) },
    signal,
  );
}

function refIn(answer: Element): ItemRef {
  const { Id: id, ChangeKey: changeKey } = within(answer, "ItemId")?.attributes ?? {};
  if (id === undefined) throw new Problem("protocol", "Exchange made a draft and did not say which");
  return { id, changeKey: changeKey ?? "" };
}

/** Each file changes the draft, and only its newest state may be sent. */
function rootIn(answer: Element): ItemRef | undefined {
  const { RootItemId: id, RootItemChangeKey: changeKey } = within(answer, "AttachmentId")?.attributes ?? {};
  return id === undefined ? undefined : { id, changeKey: changeKey ?? "" };
}
