/** mailFolders/delta: the whole tree of a mailbox, flat, and then what changed of it. */
import { badRequest } from "../answers.ts";
import { type Folder, isInTree, type Mailbox } from "../store/store.ts";
import type { MailAsk, MailOperation } from "../world.ts";
import type { Change, Round } from "./delta-tokens.ts";
import { shaped } from "./folders.ts";

export const foldersDelta: MailOperation = (ask) => {
  const { mailbox, world, prefer, query } = ask;
  const round = roundOf(ask);
  const base = `${world.root}/v1.0/users/${mailbox.guid}/mailFolders/delta`;
  const end = round.at + Math.min(Math.max(prefer.pageSize ?? 10, 1), 1000);
  const value = round.changes.slice(round.at, end).flatMap((one): object[] => {
    if (one.removed) return [{ id: one.id, "@removed": { reason: "deleted" } }];
    const folder = mailbox.folders.get(one.id);
    return folder ? [{ "@odata.type": "#microsoft.graph.mailFolder", ...shaped(ask, folder) }] : [];
  });
  const keep = (kind: "skip" | "delta", state: Partial<Round>) =>
    world.deltaTokens.keep({ kind, round: { ...round, ...state } });
  const selection = query.has("$select") ? `&$select=${query.get("$select")}` : "";
  const link =
    end < round.changes.length
      ? { "@odata.nextLink": `${base}?$skiptoken=${keep("skip", { at: end })}${selection}` }
      : { "@odata.deltaLink": `${base}?$deltatoken=${keep("delta", { changes: [], at: 0 })}${selection}` };
  const context = `${world.root}/v1.0/$metadata#users('${mailbox.guid}')/mailFolders`;
  return { status: 200, json: { "@odata.context": context, ...link, value } };
};

function roundOf({ world, mailbox, query }: MailAsk): Round {
  const again = `${world.root}/v1.0/users/${mailbox.guid}/mailFolders/delta?$deltatoken=`;
  const own = (token: string, kind: "skip" | "delta"): Round => {
    const { round } = world.deltaTokens.find(token, kind, again);
    if (round.of !== mailbox) throw badRequest("Badly formed token.");
    return round;
  };
  const skip = query.get("$skiptoken");
  if (skip !== null) return own(skip, "skip");
  const delta = query.get("$deltatoken");
  const wanted = { select: undefined, filter: undefined, changeType: undefined };
  const before = delta ? own(delta, "delta") : undefined;
  const changes = changesSince(mailbox, before?.until ?? 0);
  const chain = before?.chain ?? world.deltaTokens.newChain();
  return { of: mailbox, wanted, until: mailbox.count, changes, at: 0, empty: 0, chain };
}

function changesSince(mailbox: Mailbox, since: number): Change[] {
  const there: Folder[] = [...mailbox.folders.values()].filter((one) => isInTree(one) && one.changed > since);
  const gone = since === 0 ? [] : [...mailbox.goneFolders].filter(([, at]) => at > since);
  return [...there.map((one) => changeOf(one.id, false)), ...gone.map(([id]) => changeOf(id, true))];
}

function changeOf(id: string, removed: boolean): Change {
  return { id, oldId: id, removed, thin: false };
}
