/**
 * Copies the documents of one store into another: paused endpoints, bulk actions, alarms, protocol records, and whatever else there is.
 * What the other store has already stays as it is.
 */
import { adoptRecord, isOfRecords, listRecords, readRecord } from "../../shared/record/stored.ts";
import type { Documents } from "../../shared/store/documents.ts";
import { addPause, listPauses, PAUSES_DOCUMENT } from "../../shared/store/endpoint-pauses.ts";

export type MovedDocuments = {
  endpointPauses: number;
  /** Mailboxes with a protocol record. Those that are on go on, until the same time. */
  protocolRecords: number;
  /** Those that run go on where they were. */
  bulkActions: number;
  /** What is told already is not told again. The channels are settings. */
  alarms: number;
  otherDocuments: number;
  /** Documents that the other store has already, with other contents. Nothing of them was moved. */
  documentsLeftAlone: number;
};

/** Which documents an earlier run moved. What somebody ended since then does not come back. */
export type Progress = { has(what: string): Promise<boolean>; add(what: string): Promise<void> };

/** Where a document has its list, and what the report calls its members. */
const COUNTED: Record<string, { list: string; as: "bulkActions" | "alarms" }> = {
  bulk: { list: "jobs", as: "bulkActions" },
  alarms: { list: "alarms", as: "alarms" },
};

type Store = { documents: Documents };

export async function moveDocuments(from: Store, to: Store, progress: Progress): Promise<MovedDocuments> {
  const moved = { endpointPauses: 0, protocolRecords: 0, bulkActions: 0, alarms: 0 };
  const more = { otherDocuments: 0, documentsLeftAlone: 0 };
  const once = async (what: string, work: () => Promise<void>) => {
    if (await progress.has(what)) return;
    await work();
    await progress.add(what);
  };
  await once(PAUSES_DOCUMENT, async () => {
    const pauses = await listPauses(from);
    for (const pause of pauses) await addPause(to, pause);
    moved.endpointPauses += pauses.length;
  });
  for (const { mailbox } of await listRecords(from))
    await once(`record ${mailbox}`, async () => {
      const record = await readRecord(from, mailbox);
      if (record && (await adoptRecord(to, record))) moved.protocolRecords += 1;
    });
  for (const name of await from.documents.listNames()) {
    if (name === PAUSES_DOCUMENT || isOfRecords(name)) continue;
    await once(name, async () => {
      const { text = "" } = (await from.documents.read(name)) ?? {};
      await to.documents.write(name, { revision: 0, text });
      // Written here, or by an earlier run that was interrupted.
      const isThere = (await to.documents.read(name))?.text === text;
      const counted = COUNTED[name];
      if (!isThere) more.documentsLeftAlone += 1;
      else if (counted) moved[counted.as] += countMembers(text, counted.list);
      else more.otherDocuments += 1;
    });
  }
  return { ...moved, ...more };
}

function countMembers(text: string, list: string): number {
  const whole: unknown = JSON.parse(text);
  const members: unknown = typeof whole === "object" && whole !== null ? Reflect.get(whole, list) : undefined;
  return Array.isArray(members) ? members.length : 0;
}
