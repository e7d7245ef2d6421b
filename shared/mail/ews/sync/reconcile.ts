/**
 * Comparing a folder with its cursor: what SyncFolderItems says appeared since, with numbers of ours, handed over in batches that each
 * end in an exact cursor. A state that the server no longer takes is built anew without handing over what was handed over before.
 */
import type { FolderId } from "ews-javascript-api";
import type { MailboxOf } from "../../../contract/mailbox.ts";
import type { Arrival, Cursor, MessageRef } from "../../../contract/message.ts";
import { Problem } from "../../../contract/problem.ts";
import type { Emit } from "../../../telemetry/events.ts";
import { batches } from "../../batches.ts";
import { hashOf, type Known, numbering } from "../../assigned-uids.ts";
import { overlap } from "../../since.ts";
import { readState, type SyncState, writtenState } from "./cursor.ts";
import type { EwsSession } from "../client/session.ts";
import { type Item, type Page, syncPage } from "./sync-folder-items.ts";

export type Comparing = {
  session: EwsSession;
  mailbox: MailboxOf<"ews">;
  /** The folder's name in messages and cursors, and how the server knows it. */
  path: string;
  folder: FolderId;
  emit?: Emit | undefined;
  /** What "now" means for a folder without a cursor, in milliseconds since 1970. */
  start: number;
};

/** How far a folder was handed over: a cursor with its state read. */
type Standing = Omit<Cursor, "folder" | "state"> & { state: SyncState };

/** Of the messages handed over so many are known by their ids when a folder is read anew; the others by their content. */
const REMEMBERED = 200;
const EPOCH = "ews";

/**
 * Yields what lies after `cursor` in one folder; without a cursor what `since` asks for, and always a cursor. Numbers are kept, by an
 * arrival without messages, before the first message that has one. `heard` is called at every answer.
 */
export async function* reconcile(
  place: Comparing,
  cursor: Cursor | undefined,
  heard: () => void,
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  let at = standingOf(place, cursor);
  for (let last = false; !last;) {
    const page = await nextPage(place, at, heard, signal);
    if (page === "invalid") {
      if (at.state.sync === "") throw new Problem("protocol", `Exchange does not let ${place.path} be compared`);
      at = readAnew(place, at);
      continue;
    }
    for (const step of steps(at, page)) {
      at = step.at;
      const { epoch, uid, newest, state } = at;
      const messages = step.items.map((item) => refOf(place.path, epoch, item));
      yield { messages, cursor: { folder: place.path, epoch, uid, state: writtenState(state), newest } };
    }
    last = page.last;
  }
}

function standingOf(place: Comparing, cursor: Cursor | undefined): Standing {
  const { since } = place.mailbox.receive;
  if (!cursor) {
    const from = since === "now" ? place.start : Date.parse(since);
    return { epoch: EPOCH, uid: 0, newest: new Date().toISOString(), state: { sync: "", known: new Map(), from } };
  }
  const state = readState(cursor.state);
  if (state) return { ...cursor, state };
  // The mailbox was received by another protocol before.
  return readAnew(place, { ...cursor, state: { sync: "", known: new Map(), from: null } });
}

/**
 * The folder from its beginning, as far back as a day before the newest message handed over, or as before where it was being read from
 * its beginning already. In a new epoch: what was handed over
 * gets other numbers, and there its content is recognised instead of being taken for a twin.
 */
function readAnew({ mailbox, path, emit }: Comparing, { uid, newest, state }: Standing): Standing {
  const epoch = `${EPOCH}-${Date.now().toString(36)}`;
  emit?.({ kind: "mailbox.reset", mailbox: mailbox.id, folder: path, epoch });
  // The newest come first: where the folder was not read to its end, what is missing may be as old as anything asked for.
  const from = state.from ?? overlap(mailbox, { folder: path, epoch, uid, state: null, newest });
  return { epoch, uid, newest, state: { sync: "", known: passed(state.known, uid), from } };
}

/**
 * The next page; several as one where messages have numbers that were not handed over. Such a message may have changed since, and
 * come later: were the cursor to pass its number before, it would count as handed over.
 */
async function nextPage(
  { session, folder, path }: Comparing,
  { uid, state }: Standing,
  heard: () => void,
  signal: AbortSignal,
): Promise<Page | "invalid"> {
  const ahead = new Set([...state.known].filter(([, number]) => number > uid).map(([hash]) => hash));
  const items: Item[] = [];
  for (let sync = state.sync; ;) {
    const page = await syncPage(session, { folder, state: sync }, signal);
    heard();
    if (page === "invalid") return page;
    if (page === "missing")
      throw new Problem("folder", `There is no folder named ${path} any more`, { retry: "never" });
    items.push(...page.items);
    for (const { key } of page.items) ahead.delete(hashOf(key));
    sync = page.state;
    if (page.last || ahead.size === 0) return { ...page, items };
  }
}

type Step = { items: (Item & { uid: number })[]; at: Standing };

/** The steps from one standing to that after the page: numbers are kept, then each batch is handed over. */
function* steps(at: Standing, page: Page): Generator<Step, void, undefined> {
  const { uid, state } = at;
  const { from } = state;
  const wanted = page.items.filter(({ receivedAt }) => from === null || receivedAt === null || receivedAt >= from);
  // A folder read from its beginning comes newest first.
  const inOrder = wanted.toSorted((a, b) => (a.receivedAt ?? 0) - (b.receivedAt ?? 0));
  const given = numbering(state.known, inOrder, uid);
  const known = new Map([...passed(state.known, uid), ...given.known]);
  const fresh = given.numbered.filter((item) => item.uid > uid).toSorted((a, b) => a.uid - b.uid);
  if (given.fresh) yield { items: [], at: { ...at, state: { ...state, known } } };
  const after = { sync: page.state, known: passed(known, given.top), from: page.last ? null : from };
  let { newest } = at;
  let left = fresh.length;
  for (const items of batches(fresh)) {
    for (const { receivedAt } of items) newest = later(newest, receivedAt);
    left -= items.length;
    const reached = left === 0 ? given.top : (items.at(-1)?.uid ?? uid);
    yield { items, at: { ...at, uid: reached, newest, state: left === 0 ? after : { ...state, known } } };
  }
  if (fresh.length > 0 || (page.state === state.sync && after.from === from)) return;
  yield { items: [], at: { ...at, uid: given.top, state: after } };
}

/** The last of the messages handed over, as far as they are remembered. */
function passed(known: Known, uid: number): Known {
  const before = [...known].filter(([, number]) => number <= uid);
  return new Map(before.toSorted(([, a], [, b]) => a - b).slice(-REMEMBERED));
}

function later(newest: string, receivedAt: number | null): string {
  const at = receivedAt === null ? "" : new Date(receivedAt).toISOString();
  return at > newest ? at : newest;
}

function refOf(folder: string, epoch: string, { key, uid, size, receivedAt }: Item & { uid: number }): MessageRef {
  return { folder, epoch, uid, size, receivedAt: new Date(receivedAt ?? Date.now()).toISOString(), key };
}
