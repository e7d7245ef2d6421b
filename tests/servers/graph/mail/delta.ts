/** messages/delta of a folder: rounds over snapshots, in pages, with all that the documents allow a page to be. */
import { randomInt } from "node:crypto";
import { badRequest, GraphError } from "../answers.ts";
import type { Folder, Message } from "../store/store.ts";
import { idFor, type MailAsk, type MailOperation } from "../world.ts";
import type { Change, Round, Wanted } from "./delta-tokens.ts";
import { readFilter } from "./filter.ts";
import { namedFolder } from "./folders.ts";
import { messageShape, selected } from "./shape.ts";

const OPTIONS = ["$select", "$top", "$expand", "$filter", "$orderby", "changeType", "$deltatoken", "$skiptoken"];
const CHANGE_TYPES = ["created", "updated", "deleted"];

export const messagesDelta: MailOperation = async (ask) => {
  if (ask.mailbox.state === "full")
    throw new GraphError({
      status: 403,
      code: "ErrorQuotaExceeded",
      message: "The process failed to get the correct properties.",
    });
  const folder = namedFolder(ask);
  const unknown = [...ask.query.keys()].find((one) => !OPTIONS.includes(one));
  if (unknown !== undefined)
    throw badRequest(`The query parameter '${unknown}' is not supported in change tracking.`, "ErrorInvalidUrlQuery");
  return page(ask, folder, roundOf(ask, folder));
};

function roundOf(ask: MailAsk, folder: Folder): Round {
  const { deltaTokens, root } = ask.world;
  const again = `${root}/v1.0/users/${ask.mailbox.guid}/mailFolders/${folder.id}/messages/delta?$deltatoken=`;
  const own = (token: string, kind: "skip" | "delta"): Round => {
    const { round } = deltaTokens.find(token, kind, again);
    if (round.of !== folder) throw badRequest("Badly formed token.");
    return round;
  };
  const skip = ask.query.get("$skiptoken");
  const delta = ask.query.get("$deltatoken");
  if (skip !== null) return own(skip, "skip");
  if (delta === "latest")
    throw badRequest(
      "The value 'latest' of the query parameter '$deltatoken' is not supported.",
      "ErrorInvalidUrlQuery",
    );
  if (delta) {
    const before = own(delta, "delta");
    const changes = laterChanges(ask, folder, before);
    return { of: folder, wanted: before.wanted, until: folder.count, changes, at: 0, empty: 0, chain: before.chain };
  }
  const wanted = wantedBy(ask);
  const chain = deltaTokens.newChain();
  const changes = firstChanges(ask, folder, wanted);
  return { of: folder, wanted, until: folder.count, changes, at: 0, empty: 0, chain };
}

function wantedBy({ query }: MailAsk): Wanted {
  const changeType = query.get("changeType") ?? undefined;
  if (changeType !== undefined && !CHANGE_TYPES.includes(changeType))
    throw badRequest(`Invalid value '${changeType}' for changeType.`, "ErrorInvalidUrlQuery");
  const filter = query.get("$filter") ?? undefined;
  if (filter !== undefined && !/^\s*receivedDateTime\s+(ge|gt)\s+[^\s]+\s*$/.test(filter))
    throw badRequest(
      "Only receivedDateTime with ge or gt is supported in change tracking.",
      "ErrorInvalidUrlQueryFilter",
    );
  if (filter !== undefined) readFilter(filter);
  const order = query.get("$orderby");
  if (order !== null && !/^receivedDateTime\s+desc$/i.test(order.trim()))
    throw badRequest("Only receivedDateTime desc is supported in change tracking.", "ErrorInvalidUrlQuery");
  return { select: selected(query), filter, changeType };
}

function changeOf(one: Message, thin = false): Change {
  return { id: one.immutableId, oldId: one.id, removed: false, thin };
}

/** All messages, the newest first; those behind the filter end at the cap, as if that were all. */
function firstChanges({ world, query }: MailAsk, folder: Folder, { filter }: Wanted): Change[] {
  const test = filter === undefined ? undefined : readFilter(filter).test;
  const most = filter === undefined ? Number.POSITIVE_INFINITY : world.behaviour.filteredDeltaCap;
  const top = Number(query.get("$top") ?? Number.POSITIVE_INFINITY);
  const found: Change[] = [];
  for (let at = folder.sorted.length - 1; at >= 0 && found.length < Math.min(most, top); at--) {
    const one = folder.sorted[at];
    if (one && (test?.(one) ?? true)) found.push(changeOf(one));
  }
  return found;
}

/** What has changed since a round, in the order of the changes. */
function laterChanges({ world, prefer }: MailAsk, folder: Folder, { until, wanted }: Round): Change[] {
  const { filter, changeType } = wanted;
  const test = filter === undefined ? () => true : readFilter(filter).test;
  const forgets = world.behaviour.forgetsReturned && prefer.immutable;
  const found: { at: number; change: Change }[] = [];
  for (const one of folder.messages.values()) {
    if (one.changed <= until || !test(one)) continue;
    const isNew = one.entered > until;
    if (isNew && forgets && folder.returned.has(one.immutableId)) continue;
    const leaks = one.onlyMarked && world.behaviour.leaksChanges;
    if (changeType === "created" && !isNew && !leaks) continue;
    if (changeType === "updated" && isNew) continue;
    if (changeType !== "deleted") found.push({ at: one.changed, change: changeOf(one, one.onlyMarked && !isNew) });
  }
  // Removals are reported whatever the filter and the kind of change.
  for (const [id, { id: oldId, at }] of folder.gone)
    if (at > until) found.push({ at, change: { id, oldId, removed: true, thin: false } });
  return found.toSorted((a, b) => a.at - b.at).map(({ change }) => change);
}

const MOST_IN_PAGE = 1000;

async function page(ask: MailAsk, folder: Folder, round: Round) {
  const { world, prefer, mailbox } = ask;
  const { behaviour, deltaTokens, root } = world;
  const base = `${root}/v1.0/users/${mailbox.guid}/mailFolders/${folder.id}/messages/delta`;
  const context = `${root}/v1.0/$metadata#users('${mailbox.guid}')/mailFolders('${folder.id}')/messages`;
  const headers: Record<string, string> = {};
  if (prefer.pageSize !== undefined) headers["Preference-Applied"] = `odata.maxpagesize=${prefer.pageSize}`;
  const next = (state: Partial<Round>) =>
    `${base}?$skiptoken=${deltaTokens.keep({ kind: "skip", round: { ...round, ...state } })}`;
  if (round.empty < behaviour.emptyPages) {
    const link = next({ empty: round.empty + 1 });
    return { status: 200, headers, json: { "@odata.context": context, "@odata.nextLink": link, value: [] } };
  }
  const size = Math.min(Math.max(prefer.pageSize ?? 10, 1), MOST_IN_PAGE);
  const from = behaviour.repeatsItems && round.at > 0 ? round.at - 1 : round.at;
  const end = round.at + size;
  const some = ordered(round.changes.slice(from, end), behaviour.order);
  const shapes = await Promise.all(some.map((one) => changeShape(ask, folder, one, round.wanted.select)));
  const value = shapes.filter((one) => one !== undefined);
  const link =
    end < round.changes.length
      ? { "@odata.nextLink": next({ at: end, empty: 0 }) }
      : { "@odata.deltaLink": `${base}?$deltatoken=${deltaTokens.keep({ kind: "delta", round: ended(round) })}` };
  return { status: 200, headers, json: { "@odata.context": context, ...link, value } };
}

/** What is remembered for the next round. */
function ended(round: Round): Round {
  return { ...round, changes: [], at: 0, empty: 0 };
}

function ordered(changes: Change[], order: "natural" | "reversed" | "shuffled"): Change[] {
  if (order === "natural") return changes;
  const list = changes.toReversed();
  if (order === "shuffled")
    for (let last = list.length - 1; last > 0; last--) {
      const other = randomInt(last + 1);
      const [a, b] = [list[last], list[other]];
      if (a && b) [list[last], list[other]] = [b, a];
    }
  return list;
}

/** The item as it is now; undefined when it is there no longer, which the next round says. */
async function changeShape(ask: MailAsk, folder: Folder, change: Change, select: string[] | undefined) {
  const type = { "@odata.type": "#microsoft.graph.message" };
  if (change.removed) {
    const id = ask.prefer.immutable ? change.id : change.oldId;
    return { ...type, id, "@removed": { reason: "deleted" } };
  }
  const message = folder.messages.get(change.id);
  if (!message) return undefined;
  if (change.thin && ask.world.behaviour.thinsItems) {
    const { isRead } = message;
    return { ...type, id: idFor(ask, message), isRead, parentFolderId: folder.id };
  }
  return { ...type, ...(await messageShape(ask, message, select)) };
}
