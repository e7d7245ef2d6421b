/** Marks or moves messages at Graph after their delivery, or puts them into Deleted Items. Needs Mail.ReadWrite. */
import * as v from "valibot";
import type { AfterDeliveryAction } from "../../../contract/mailbox.ts";
import type { MessageRef } from "../../../contract/message.ts";
import { findGraphIds } from "../client/exchange-ids.ts";
import { GraphRefusal, isNotFound } from "../client/errors.ts";
import { withQuery } from "../client/pages.ts";
import type { ChangeOrder, GraphSession } from "../client/session.ts";

/**
 * `folder` finds the folder of a name, and creates it if there is none. `idOf` is the id of the folder that messages have as
 * theirs.
 */
export type AfterDeliveryTarget = {
  session: GraphSession;
  folder: (name: string, signal: AbortSignal) => Promise<string>;
  idOf: (path: string, signal: AbortSignal) => Promise<string | undefined>;
};

/** Somebody else may change a message between reading and writing its categories. */
const MAX_ATTEMPTS = 5;

const Categories = v.object({
  "@odata.etag": v.nullish(v.string()),
  categories: v.nullish(v.array(v.string())),
});

const Filed = v.object({ parentFolderId: v.nullish(v.string()) });

/** `applyAfterDelivery` of MailConnection. Missing messages are skipped, and those that somebody filed elsewhere. */
export async function applyAfterDelivery(
  target: AfterDeliveryTarget,
  messages: MessageRef[],
  action: AfterDeliveryAction,
  signal: AbortSignal,
): Promise<void> {
  const { session } = target;
  const destination = typeof action === "object" && "move" in action ? await target.folder(action.move, signal) : null;
  const ids = await findGraphIds(session, messages, signal);
  for (const { key, folder } of messages) {
    if (key === undefined) continue;
    const path = `${session.base}/messages/${encodeURIComponent(ids.get(key) ?? key)}`;
    if (action === "markRead")
      await changeExisting(session, patch("Marking a message", path, { isRead: true }), signal);
    else if (typeof action === "object" && "keyword" in action)
      await addCategory(session, path, action.keyword, signal);
    else if (await isStillIn(session, path, await target.idOf(folder, signal), signal))
      await changeExisting(session, move(path, destination ?? "deleteditems"), signal);
  }
}

/** An immutable id leads to a message wherever somebody filed it, and there it must stay. */
async function isStillIn(
  session: GraphSession,
  path: string,
  folder: string | undefined,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    const query = withQuery(path, { $select: "parentFolderId" });
    const { parentFolderId } = await session.get("Reading a message's folder", query, Filed, signal);
    return parentFolderId === folder;
  } catch (error) {
    if (isNotFound(error)) return false;
    throw error;
  }
}

function patch(what: string, path: string, body: object, headers?: Record<string, string>): ChangeOrder {
  return { what, method: "PATCH", path, body, ...(headers && { headers }) };
}

/** With immutable ids a message that was moved keeps its id, so a repeated move has no other effect. */
function move(path: string, destinationId: string): ChangeOrder {
  return { what: "Moving a message", method: "POST", path: `${path}/move`, body: { destinationId } };
}

async function changeExisting(session: GraphSession, order: ChangeOrder, signal: AbortSignal): Promise<void> {
  try {
    await session.change(order, signal);
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
}

/** Adds a category. A list replaces the present one, so that is written again with it, unless it changed meanwhile. */
async function addCategory(session: GraphSession, path: string, category: string, signal: AbortSignal): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      const query = withQuery(path, { $select: "categories" });
      const message = await session.get("Reading a message's categories", query, Categories, signal);
      const categories = message.categories ?? [];
      if (categories.includes(category)) return;
      const etag = message["@odata.etag"];
      const body = { categories: [...categories, category] };
      await session.change(patch("Marking a message", path, body, etag == null ? {} : { "if-match": etag }), signal);
      return;
    } catch (error) {
      if (isNotFound(error)) return;
      const hasChanged = error instanceof GraphRefusal && (error.status === 412 || error.status === 409);
      if (!hasChanged || attempt === MAX_ATTEMPTS) throw error;
    }
  }
}
