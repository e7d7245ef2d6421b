/** Commands about folders: LIST, CREATE, STATUS, SELECT and their like. */
import { entriesOf, isAtom, Refusal, textOf } from "./parser.ts";
import type { Handler, Session } from "./session.ts";
import { type Account, findFolder, type Folder } from "./store.ts";

/** The commands about folders; all need a login. */
export const folderCommands: Record<string, Handler> = {
  NAMESPACE: (session) => {
    session.send('* NAMESPACE (("" "/")) NIL NIL\r\n');
    return "OK NAMESPACE completed";
  },
  ENABLE: (session, { args }) => {
    const known = args.map((one) => textOf(one).toUpperCase()).filter((name) => name === "CONDSTORE");
    const enabled = known.filter(() => session.server.capabilities.condstore);
    for (const name of enabled) session.enabled.add(name);
    session.send(`* ENABLED ${enabled.join(" ")}\r\n`.replace(" \r", "\r"));
    return "OK ENABLE completed";
  },
  LIST: (session, { args }) => list(session, "LIST", textOf(args[0]), args[1] && patternOf(args[1])),
  LSUB: (session, { args }) => list(session, "LSUB", textOf(args[0]), args[1] && patternOf(args[1])),
  SUBSCRIBE: (session, { args }) => subscribe(session, textOf(args[0]), true),
  UNSUBSCRIBE: (session, { args }) => subscribe(session, textOf(args[0]), false),
  CREATE: (session, { args }) => {
    const name = textOf(args[0]).replace(/\/$/, "");
    if (name === "" || findFolder(accountOf(session), name)) throw new Refusal("NO [ALREADYEXISTS] Folder exists");
    session.server.store.createFolder(accountOf(session), name);
    return "OK CREATE completed";
  },
  DELETE: (session, { args }) => {
    const folder = folderOf(session, textOf(args[0]));
    if (folder.path === "INBOX") throw new Refusal("NO [CANNOT] INBOX cannot be deleted");
    accountOf(session).folders.delete(folder.path);
    folder.gone("Mailbox was deleted");
    return "OK DELETE completed";
  },
  RENAME: (session, { args }) => {
    const folder = folderOf(session, textOf(args[0]));
    const name = textOf(args[1]);
    if (folder.path === "INBOX" || findFolder(accountOf(session), name)) throw new Refusal("NO [CANNOT] Not possible");
    rename(accountOf(session), folder, name);
    return "OK RENAME completed";
  },
  STATUS: (session, { args }) => {
    const folder = folderOf(session, textOf(args[0]));
    const fields = entriesOf(args[1]).map((entry) => textOf(entry).toUpperCase());
    const values = fields.flatMap((field) => {
      const value = STATUS[field]?.(folder);
      return value === undefined ? [] : [`${field} ${value}`];
    });
    session.send(`* STATUS ${quoted(folder.path)} (${values.join(" ")})\r\n`);
    return "OK STATUS completed";
  },
  SELECT: (session, { args }) => open(session, textOf(args[0]), entriesOf(args[1] ?? noList), false),
  EXAMINE: (session, { args }) => open(session, textOf(args[0]), entriesOf(args[1] ?? noList), true),
};

const noList = { kind: "list" as const, entries: [] };

const STATUS: Record<string, (folder: Folder) => number> = {
  MESSAGES: (folder) => folder.messages.length,
  RECENT: () => 0,
  UIDNEXT: (folder) => folder.uidNext,
  UIDVALIDITY: (folder) => folder.uidValidity,
  UNSEEN: (folder) => folder.messages.filter((message) => !message.flags.has("\\Seen")).length,
  HIGHESTMODSEQ: (folder) => folder.modseq,
  SIZE: (folder) => folder.messages.reduce((size, message) => size + message.raw.length, 0),
};

/** The account of a session that has logged in; otherwise a refusal. */
export function accountOf(session: Session): Account {
  if (!session.account) throw new Refusal("BAD Log in first");
  return session.account;
}

/** The folder with this name on the wire; otherwise a refusal with `code`. */
export function folderOf(session: Session, name: string, code = "NONEXISTENT"): Folder {
  const folder = findFolder(accountOf(session), name);
  if (!folder) throw new Refusal(`NO [${code}] Mailbox does not exist`);
  return folder;
}

function open(session: Session, name: string, parameters: Parameters<typeof isAtom>[0][], readOnly: boolean): string {
  session.select(undefined);
  const folder = folderOf(session, name);
  const { condstore } = session.server.capabilities;
  if (condstore && parameters.some((one) => isAtom(one, "CONDSTORE"))) session.enabled.add("CONDSTORE");
  session.select(folder, readOnly);
  const keywords = new Set(["\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft"]);
  for (const message of folder.messages) for (const flag of message.flags) keywords.add(flag);
  const flags = [...keywords].join(" ");
  const unseen = folder.messages.findIndex((message) => !message.flags.has("\\Seen"));
  const lines = [
    `FLAGS (${flags})`,
    `OK [PERMANENTFLAGS (${readOnly ? "" : `${flags} \\*`})] Limited`,
    `${folder.messages.length} EXISTS`,
    "0 RECENT",
    ...(unseen < 0 ? [] : [`OK [UNSEEN ${unseen + 1}] First unseen`]),
    `OK [UIDVALIDITY ${folder.uidValidity}] UIDs valid`,
    `OK [UIDNEXT ${folder.uidNext}] Next UID`,
    condstore ? `OK [HIGHESTMODSEQ ${folder.modseq}] Highest` : "OK [NOMODSEQ] No modification sequences",
  ];
  for (const line of lines) session.send(`* ${line}\r\n`);
  return `OK [${readOnly ? "READ-ONLY" : "READ-WRITE"}] ${readOnly ? "EXAMINE" : "SELECT"} completed`;
}

function list(session: Session, verb: string, reference: string, pattern: string | undefined): string {
  if (pattern === undefined) throw new Refusal("BAD Missing pattern");
  const folders = [...accountOf(session).folders.values()];
  if (pattern === "") session.send(`* ${verb} (\\Noselect) "/" ""\r\n`);
  const matches = matcher(reference + pattern);
  for (const folder of folders) {
    if (!matches(folder.path) || (verb === "LSUB" && !folder.subscribed)) continue;
    const children = folders.some((other) => other.path.startsWith(`${folder.path}/`));
    const use = session.server.capabilities.specialUse && folder.specialUse ? ` ${folder.specialUse}` : "";
    const flags = `${children ? "\\HasChildren" : "\\HasNoChildren"}${use}`;
    session.send(`* ${verb} (${verb === "LSUB" ? "" : flags}) "/" ${quoted(folder.path)}\r\n`);
  }
  return `OK ${verb} completed`;
}

function patternOf(argument: Parameters<typeof textOf>[0]): string {
  return textOf(entriesOf(argument)[0]);
}

function matcher(pattern: string): (path: string) => boolean {
  const inbox = pattern.toUpperCase() === "INBOX";
  const escaped = pattern
    .replaceAll(/[.+?^${}()|[\]\\]/g, "\\$&")
    .replaceAll("*", ".*")
    .replaceAll("%", "[^/]*");
  const expression = new RegExp(`^${escaped}$`, inbox ? "i" : "");
  return (path) => expression.test(path);
}

function subscribe(session: Session, name: string, subscribed: boolean): string {
  folderOf(session, name).subscribed = subscribed;
  return `OK ${subscribed ? "SUBSCRIBE" : "UNSUBSCRIBE"} completed`;
}

function rename(account: Account, folder: Folder, name: string): void {
  for (const [path, one] of Array.from(account.folders)) {
    if (path !== folder.path && !path.startsWith(`${folder.path}/`)) continue;
    account.folders.delete(path);
    account.folders.set(name + path.slice(folder.path.length), one);
  }
  for (const [path, one] of account.folders) one.path = path;
}

function quoted(path: string): string {
  return `"${path.replaceAll(/["\\]/g, "\\$&")}"`;
}
