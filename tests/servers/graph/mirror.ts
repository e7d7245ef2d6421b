/** One mailbox in both: a fake Exchange and a fake Graph with the same mail, whose ids translate into each other. */
import type { Exchange } from "../exchange/server.ts";
import type { GraphServer } from "./server.ts";
import { toRestId } from "./store/ids.ts";

/** A message in both servers. */
export type Twin = { ewsId: string; immutableId: string };

export type Mirror = {
  /** The messages that were there at the beginning, the oldest first. */
  twins: Twin[];
  /** Delivers to both at the same time. */
  append(folder: string, raw: Buffer | string): Promise<Twin>;
};

const FOLDERS = ["inbox", "drafts", "sentitems", "deleteditems", "junkemail", "outbox", "conversationhistory"];

/**
 * Makes the Exchange mailbox of this address known to Graph too, with the same folder ids and all the messages of its
 * standard folders and of those named in `more`, which lie directly below the top.
 */
export async function mirrored(
  exchange: Exchange,
  graph: GraphServer,
  address: string,
  more: string[] = [],
): Promise<Mirror> {
  const folderIds = Object.fromEntries(FOLDERS.map((one) => [one, toRestId(exchange.folderId(address, one))]));
  await graph.addUser(address, { folderIds });
  for (const one of more) await graph.createFolder(address, one, { ewsId: exchange.folderId(address, one) });
  const twins: Twin[] = [];
  for (const folder of [...FOLDERS, ...more]) {
    for (const { id, raw, receivedAt, isRead, isDraft, categories } of exchange.items(address, folder)) {
      const kept = { receivedAt, isRead, isDraft, categories, ewsId: id };
      twins.push({ ewsId: id, immutableId: await graph.append(address, folder, raw, kept) });
    }
  }
  return {
    twins,
    async append(folder, raw) {
      const receivedAt = new Date();
      const ewsId = await exchange.append(address, folder, raw, { receivedAt });
      return { ewsId, immutableId: await graph.append(address, folder, raw, { ewsId, receivedAt }) };
    },
  };
}
