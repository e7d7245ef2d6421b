/**
 * Records of what was said with the mail servers of a mailbox: which are on, and their texts, in documents that all nodes share. A
 * record ends by itself, and has at most MAX_CHARACTERS.
 */
import * as v from "valibot";
import { Problem } from "../contract/problem.ts";
import type { Documents } from "../store/documents.ts";
import { clock } from "../time.ts";

const Entry = v.object({ mailbox: v.string(), startedAt: v.string(), until: v.string() });
export type RecordEntry = v.InferOutput<typeof Entry>;
export type MailboxRecord = RecordEntry & { text: string };

const Index = v.object({ items: v.array(Entry) });
const Text = v.object({ text: v.string() });
const INDEX = "records";
const textOf = (mailbox: string) => `record ${mailbox}`;

export const RECORD_MS = 15 * 60_000;
const KEPT_MS = 24 * 3_600_000;
/** So many are on at once, so that the store has little to write. */
const MAX_ON = 10;
/** So many are kept, those that are on among them. */
const MAX_KEPT = 50;
const MAX_CHARACTERS = 256 * 1024;
const MAX_WRITES = 20;
const LEFT_OUT = "[older lines were left out]\n";

type Store = { documents: Documents };

export async function listRecords(store: Store): Promise<RecordEntry[]> {
  return (await readIndex(store)).items;
}

/** Begins an empty record, or anew. Throws `conflict` if too many are on. */
export async function beginRecord(store: Store, mailbox: string): Promise<RecordEntry> {
  const now = clock.now();
  const entry = { mailbox, startedAt: new Date(now).toISOString(), until: new Date(now + RECORD_MS).toISOString() };
  const dropped: string[] = [];
  await writeDocument(store, textOf(mailbox), () => ({ text: "" }));
  await changeIndex(store, (items) => {
    const others = items.filter((one) => one.mailbox !== mailbox);
    if (others.filter((one) => Date.parse(one.until) > now).length >= MAX_ON)
      throw new Problem("conflict", `${MAX_ON} records are on, and no more can be at once.`);
    dropped.splice(0, dropped.length, ...others.slice(MAX_KEPT - 1).map((one) => one.mailbox));
    return [entry, ...others].slice(0, MAX_KEPT);
  });
  for (const one of dropped) await store.documents.remove(textOf(one));
  return entry;
}

/** Ends a record now. What it has stays. False if there is none. */
export async function endRecord(store: Store, mailbox: string): Promise<boolean> {
  const now = new Date(clock.now()).toISOString();
  let found = false;
  await changeIndex(store, (items) => {
    found = items.some((one) => one.mailbox === mailbox);
    return items.map((one) => (one.mailbox === mailbox && one.until > now ? { ...one, until: now } : one));
  });
  return found;
}

export async function readRecord(store: Store, mailbox: string): Promise<MailboxRecord | undefined> {
  const entry = (await listRecords(store)).find((one) => one.mailbox === mailbox);
  if (!entry) return undefined;
  const stored = await store.documents.read(textOf(mailbox));
  return { ...entry, text: stored ? v.parse(Text, JSON.parse(stored.text)).text : "" };
}

/** Takes over a record of another store. False if this one has a record of the mailbox, or has no room for one. */
export async function adoptRecord(store: Store, { text, ...entry }: MailboxRecord): Promise<boolean> {
  const items = await listRecords(store);
  if (items.length >= MAX_KEPT || items.some((one) => one.mailbox === entry.mailbox)) return false;
  await writeDocument(store, textOf(entry.mailbox), () => ({ text }));
  await changeIndex(store, (others) => [...others.filter((one) => one.mailbox !== entry.mailbox), entry]);
  return true;
}

/** True for the documents that records consist of. */
export function isOfRecords(name: string): boolean {
  return name === INDEX || name.startsWith(textOf(""));
}

/** Adds lines, and drops the oldest if there are too many. */
export async function appendRecord(store: Store, mailbox: string, lines: string): Promise<void> {
  await writeDocument(store, textOf(mailbox), (stored) => {
    const whole = (stored ? v.parse(Text, JSON.parse(stored)).text : "") + lines;
    if (whole.length <= MAX_CHARACTERS) return { text: whole };
    const rest = whole.slice(-MAX_CHARACTERS);
    return { text: LEFT_OUT + rest.slice(rest.indexOf("\n") + 1) };
  });
}

/** Deletes records that ended a day ago, and those of mailboxes that are gone. */
export async function purgeRecords(store: Store, isThere: (mailbox: string) => Promise<boolean>): Promise<void> {
  const before = clock.now() - KEPT_MS;
  const over: string[] = [];
  for (const { mailbox, until } of await listRecords(store))
    if (Date.parse(until) < before || !(await isThere(mailbox))) over.push(mailbox);
  if (over.length === 0) return;
  await changeIndex(store, (items) => items.filter((one) => !over.includes(one.mailbox)));
  for (const mailbox of over) await store.documents.remove(textOf(mailbox));
}

async function readIndex({ documents }: Store): Promise<{ items: RecordEntry[]; revision: number }> {
  const stored = await documents.read(INDEX);
  return { items: stored ? v.parse(Index, JSON.parse(stored.text)).items : [], revision: stored?.revision ?? 0 };
}

async function changeIndex(store: Store, next: (items: RecordEntry[]) => RecordEntry[]): Promise<void> {
  await writeDocument(store, INDEX, (stored) => ({
    items: next(stored ? v.parse(Index, JSON.parse(stored)).items : []),
  }));
}

/** Changes a document, again if another node changed it meanwhile. */
async function writeDocument(
  { documents }: Store,
  name: string,
  next: (stored: string | undefined) => unknown,
): Promise<void> {
  for (let n = 0; n < MAX_WRITES; n++) {
    const stored = await documents.read(name);
    const text = JSON.stringify(next(stored?.text));
    if (await documents.write(name, { revision: stored?.revision ?? 0, text })) return;
  }
  throw new Problem("store", "A record could not be written: other nodes change it all the time");
}
