/** FindItem: messages of a folder by when they were received or by their Message-ID, whatever the cursors say. */
import { createHash } from "node:crypto";
import { AGAIN, type MessageRef } from "../../../contract/message.ts";
import { batches } from "../../batches.ts";
import { within } from "../soap/elements.ts";
import type { Watched } from "./folders.ts";
import { escaped } from "../soap/xml.ts";
import { answerTo, fieldsXml, folderXml } from "../client/operations.ts";
import type { EwsSession } from "../client/session.ts";
import { type Item, ITEM_FIELDS, itemOf } from "./sync-folder-items.ts";

const ITEMS_AT_ONCE = 500;
/** Message-IDs looked for in one request. */
const IDS_AT_ONCE = 20;

type Found = { items: Item[]; count: number; last: boolean };

/**
 * Messages of a folder received at or after a date, oldest first, in batches. A page begins where the last one's dates end and not
 * at a count of messages: what is deleted meanwhile would move the others.
 */
export async function* receivedSince(
  session: EwsSession,
  watched: Watched,
  since: Date,
  signal: AbortSignal,
): AsyncGenerator<MessageRef[], void, undefined> {
  let from = since.getTime();
  let held: Item[] = [];
  let offset = 0;
  for (;;) {
    const restriction = compare("IsGreaterThanOrEqualTo", "item:DateTimeReceived", new Date(from).toISOString());
    const { items, count, last } = await find(session, watched, { restriction, offset }, signal);
    const reached = last ? Infinity : Math.max(from, ...items.map(({ receivedAt }) => receivedAt ?? 0));
    if (reached === from) {
      // More messages of one second than fit into a page: they are handed over together.
      held.push(...items);
      offset += count;
      continue;
    }
    // Those of the page's last second come again with the next.
    const whole = [...held, ...items.filter(({ receivedAt }) => (receivedAt ?? 0) < reached)];
    yield* batches(whole.map((item) => refOf(watched.path, item)));
    if (last) return;
    [from, held, offset] = [reached, [], 0];
  }
}

/** Messages of a folder whose Message-ID field is one of these, in batches; ids that the folder does not have are skipped. */
export async function* withMessageIds(
  session: EwsSession,
  watched: Watched,
  messageIds: string[],
  signal: AbortSignal,
): AsyncGenerator<MessageRef[], void, undefined> {
  for (let start = 0; start < messageIds.length; start += IDS_AT_ONCE) {
    const some = messageIds.slice(start, start + IDS_AT_ONCE);
    let offset = 0;
    for (let last = false; !last;) {
      const page = await find(session, watched, { restriction: anyOf(some), offset }, signal);
      yield* batches(page.items.map((item) => refOf(watched.path, item)));
      offset += page.count;
      last = page.last;
    }
  }
}

/** A restriction to items with one of these Message-IDs. */
export function anyOf(messageIds: readonly string[]): string {
  const each = messageIds.map((id) => compare("IsEqualTo", "message:InternetMessageId", id));
  return each.length > 1 ? `<t:Or>${each.join("")}</t:Or>` : each.join("");
}

function compare(how: string, field: string, value: string): string {
  const constant = `<t:FieldURIOrConstant><t:Constant Value="${escaped(value)}"/></t:FieldURIOrConstant>`;
  return `<t:${how}><t:FieldURI FieldURI="${field}"/>${constant}</t:${how}>`;
}

/** A page of a folder's items that fit the restriction, in the order in which they were received. */
export async function find(
  session: EwsSession,
  { folder }: Pick<Watched, "folder">,
  { restriction, offset }: { restriction: string; offset: number },
  signal: AbortSignal,
): Promise<Found> {
  const order = `<t:FieldOrder Order="Ascending"><t:FieldURI FieldURI="item:DateTimeReceived"/></t:FieldOrder>`;
  const content =
    `<m:ItemShape>${fieldsXml(ITEM_FIELDS)}</m:ItemShape>` +
    `<m:IndexedPageItemView MaxEntriesReturned="${ITEMS_AT_ONCE}" Offset="${offset}" BasePoint="Beginning"/>` +
    `<m:Restriction>${restriction}</m:Restriction><m:SortOrder>${order}</m:SortOrder>` +
    `<m:ParentFolderIds>${folderXml(session, folder)}</m:ParentFolderIds>`;
  const answer = await answerTo(session, { name: "FindItem", attributes: ' Traversal="Shallow"', content }, signal);
  const all = within(answer, "Items")?.children ?? [];
  const last = within(answer, "RootFolder")?.attributes["IncludesLastItemInRange"] !== "false" || all.length === 0;
  return { items: all.flatMap(itemOf), count: all.length, last };
}

/** The number of a message that is looked up once more is made of its id: it has to be the same whenever that is done. */
function refOf(folder: string, { key, size, receivedAt }: Item): MessageRef {
  const uid = createHash("sha256").update(key).digest().readUIntBE(0, 6) + 1;
  return { folder, epoch: AGAIN, uid, size, receivedAt: new Date(receivedAt ?? Date.now()).toISOString(), key };
}
