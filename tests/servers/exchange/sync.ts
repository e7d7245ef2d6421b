/**
 * SyncFolderItems. As in Exchange, the state remembers which items the client was given and up to which change, so that
 * whatever happens between two pages is told exactly once; it is kept by the client, so it outlasts the server.
 */
import { answerOne, type Ask, folderOf, type Operation } from "./ask.ts";
import { itemXml, readShape } from "./shape.ts";
import { EwsError } from "./soap.ts";
import { changeKey, type Folder, type Item } from "./store.ts";
import { child, leaf, tag, textAt } from "./xml.ts";

type Stamped = { kind: string; folder: string; generation: number };

/** Reads a state that `writeState` wrote for the same folder; the fresh one where the request has none. */
export function readState<State extends Stamped>(text: string | undefined, fresh: State): State {
  if (text === undefined || text === "") return fresh;
  let state: State;
  try {
    state = JSON.parse(Buffer.from(text, "base64").subarray(4).toString()) as State;
  } catch {
    throw new EwsError("ErrorInvalidSyncStateData");
  }
  const same = state.kind === fresh.kind && state.folder === fresh.folder && state.generation === fresh.generation;
  if (!same) throw new EwsError("ErrorInvalidSyncStateData");
  return state;
}

export function writeState<State extends Stamped>(state: State): string {
  return Buffer.concat([Buffer.from("H4sI"), Buffer.from(JSON.stringify(state))]).toString("base64");
}

/** Numbers of items as ascending ranges, both ends included. */
type Ranges = [number, number][];

type ItemState = Stamped & {
  given: Ranges;
  /** Changes of given items up to this one are known. */
  at: number;
  /** While the first pass lasts: it goes from new to old, and is at items below this number. */
  below?: number;
};

function has(ranges: Ranges, number: number): boolean {
  let [low, high] = [0, ranges.length - 1];
  while (low <= high) {
    const middle = (low + high) >> 1;
    const [from, to] = ranges[middle] ?? [0, 0];
    if (number < from) high = middle - 1;
    else if (number > to) low = middle + 1;
    else return true;
  }
  return false;
}

/** The same numbers with some more and without some; neighbours become one range. */
function changedRanges(ranges: Ranges, more: number[], less: Set<number>): Ranges {
  const pieces: Ranges = [...ranges, ...more.map((one): [number, number] => [one, one])].toSorted(
    (a, b) => a[0] - b[0],
  );
  const cuts = [...less].toSorted((a, b) => a - b);
  const joined: Ranges = [];
  for (const [from, to] of pieces) {
    const last = joined.at(-1);
    if (last && from <= last[1] + 1) last[1] = Math.max(last[1], to);
    else joined.push([from, to]);
  }
  return joined.flatMap(([from, to]) => without(from, to, cuts));
}

function without(from: number, to: number, cuts: number[]): Ranges {
  const left: Ranges = [];
  let start = from;
  for (const cut of cuts) {
    if (cut < start || cut > to) continue;
    if (cut > start) left.push([start, cut - 1]);
    start = cut + 1;
  }
  if (start <= to) left.push([start, to]);
  return left;
}

type Change =
  | { kind: "Create" | "Update" | "ReadFlagChange"; item: Item }
  | { kind: "Delete"; number: number; id: string };

/** What the client does not know yet, in the order it is told. */
function pending(folder: Folder, state: ItemState): Change[] {
  const items = [...folder.items.values()];
  const { below } = state;
  if (below !== undefined) {
    const older = items.filter(({ number }) => number < below && !has(state.given, number));
    return older.toSorted((a, b) => b.number - a.number).map((item) => ({ kind: "Create", item }));
  }
  const gone: Change[] = [...folder.gone]
    .filter(([number]) => has(state.given, number))
    .map(([number, id]) => ({ kind: "Delete", number, id }));
  const told = items
    .filter(({ number, changed }) => !has(state.given, number) || changed > state.at)
    .toSorted((a, b) => a.changed - b.changed)
    .map((item): Change => {
      if (!has(state.given, item.number)) return { kind: "Create", item };
      return { kind: item.contentChanged > state.at ? "Update" : "ReadFlagChange", item };
    });
  return [...gone, ...told];
}

/** Hidden items come in a later page. */
type Limit = { most: number; isHidden: (item: Item) => boolean };
type Page = { changes: Change[]; state: ItemState; last: boolean };

function nextPage(folder: Folder, before: ItemState, { most, isHidden }: Limit): Page {
  const all = pending(folder, before).filter((change) => change.kind !== "Create" || !isHidden(change.item));
  const changes = all.slice(0, most);
  const more = changes.flatMap((one) => (one.kind === "Create" ? [one.item.number] : []));
  const less = changes.flatMap((one) => (one.kind === "Delete" ? [one.number] : []));
  const given = changedRanges(before.given, more, new Set(less));
  const rest = all.length - changes.length;
  const state: ItemState = { ...before, given };
  if (before.below !== undefined) {
    if (rest > 0) state.below = Math.min(...more);
    else delete state.below;
    return { changes, state, last: rest === 0 && pending(folder, state).length === 0 };
  }
  const told = changes.flatMap((one) => (one.kind === "Delete" ? [] : [one.item.changed]));
  state.at = rest === 0 ? folder.mailbox.change : (told.at(-1) ?? state.at);
  return { changes, state, last: rest === 0 };
}

async function synchronized(ask: Ask): Promise<string> {
  const { request, world } = ask;
  const shape = readShape(child(request, "ItemShape"));
  const folder = folderOf(ask, child(request, "SyncFolderId")?.children[0]);
  const refusal = world.refused.get(folder.id);
  if (refusal !== undefined) throw new EwsError(refusal);
  const most = Number(textAt(request, "MaxChangesReturned"));
  if (!(most >= 1 && most <= 512)) throw new EwsError("ErrorInvalidSyncFolderItemsMaxChanges");
  const fresh: ItemState = {
    kind: "items",
    folder: folder.id,
    generation: folder.mailbox.generation,
    given: [],
    at: folder.mailbox.change,
    below: folder.nextItem,
  };
  const isHidden = (item: Item) => world.lieAbout(item, "changes") === "left out";
  const page = nextPage(folder, readState(textAt(request, "SyncState"), fresh), { most, isHidden });
  const ignored = new Set((child(request, "Ignore")?.children ?? []).map((one) => one.attributes["Id"]));
  const changes: string[] = [];
  for (const change of page.changes) {
    const id = change.kind === "Delete" ? change.id : change.item.id;
    if (ignored.has(id)) continue;
    changes.push(await changeXml(change, shape));
    const isDouble = change.kind === "Create" && world.lieAbout(change.item, "changes") === "double";
    if (isDouble) changes.push(await changeXml(change, shape));
  }
  return [
    leaf("m:SyncState", writeState(page.state)),
    leaf("m:IncludesLastItemInRange", page.last),
    tag("m:Changes", {}, ...changes),
  ].join("");
}

async function changeXml(change: Change, shape: ReturnType<typeof readShape>): Promise<string> {
  if (change.kind === "Delete") return tag("t:Delete", {}, tag("t:ItemId", { Id: change.id, ChangeKey: "CQAAAA==" }));
  const { item } = change;
  if (change.kind === "ReadFlagChange") {
    const id = tag("t:ItemId", { Id: item.id, ChangeKey: changeKey(item) });
    return tag("t:ReadFlagChange", {}, id, leaf("t:IsRead", item.isRead));
  }
  return tag(`t:${change.kind}`, {}, await itemXml(item, shape, true));
}

export const SYNC_OPERATIONS: Record<string, Operation> = {
  SyncFolderItems: (ask) => answerOne("SyncFolderItems", () => synchronized(ask)),
};
