/** Commands about the messages of the selected folder: FETCH, STORE, SEARCH, COPY, MOVE, EXPUNGE, APPEND, IDLE. */
import { setTimeout as sleep } from "node:timers/promises";
import { type FetchItem, fetchItems } from "./fetch.ts";
import { accountOf, folderOf } from "./folders.ts";
import { type Argument, type Command, entriesOf, isAtom, Refusal, textOf } from "./parser.ts";
import { search } from "./search.ts";
import { asSet, type Numbered, select } from "./sequence.ts";
import type { Handler, Session } from "./session.ts";
import type { Folder, Message } from "./store.ts";

/** The commands about messages, the UID ones included. */
export const messageCommands: Record<string, Handler> = {
  FETCH: (session, command) => fetch(session, command, false),
  "UID FETCH": (session, command) => fetch(session, command, true),
  STORE: (session, command) => store(session, command, false),
  "UID STORE": (session, command) => store(session, command, true),
  SEARCH: (session, command) => find(session, command, false),
  "UID SEARCH": (session, command) => find(session, command, true),
  COPY: (session, command) => copy(session, command, false),
  "UID COPY": (session, command) => copy(session, command, true),
  MOVE: (session, command) => move(session, command, false),
  "UID MOVE": (session, command) => move(session, command, true),
  EXPUNGE: (session) => expunge(session, "1:*", false),
  "UID EXPUNGE": (session, { args }) => expunge(session, textOf(args[0]), true),
  APPEND: append,
  IDLE: idle,
  CHECK: (session) => {
    selected(session);
    return "OK CHECK completed";
  },
  CLOSE: (session) => {
    if (!session.readOnly) removeDeleted(session, selected(session).messages);
    session.select(undefined);
    return "OK CLOSE completed";
  },
  UNSELECT: (session) => {
    selected(session);
    session.select(undefined);
    return "OK UNSELECT completed";
  },
};

function selected(session: Session): Folder {
  if (!session.folder) throw new Refusal("BAD No mailbox selected");
  return session.folder;
}

function writable(session: Session): Folder {
  const folder = selected(session);
  if (session.readOnly) throw new Refusal("NO [READ-ONLY] Mailbox is read-only");
  return folder;
}

async function fetch(session: Session, { args }: Command, byUid: boolean): Promise<string> {
  selected(session);
  const items = fetchItems(args[1], byUid);
  const changedSince = modifier(session, args[2], "CHANGEDSINCE") ?? 0;
  if (changedSince > 0 && !items.some(isModseq)) items.push(...fetchItems({ kind: "atom", text: "MODSEQ" }, false));
  const content = items.some((item) => item.content);
  const rejected: number[] = [];
  for (const one of select(session.view, textOf(args[0]), byUid)) {
    if (one.message.modseq <= changedSince) continue;
    if (content && session.server.faults.withholdContent) await withhold(session, one);
    else if (content && session.server.faults.rejects(one.message.uid)) rejected.push(one.message.uid);
    else writeFetch(session, one, items);
    if (session.full) await session.flush();
  }
  if (rejected.length > 0) return `NO [SERVERBUG] Message ${rejected.join(",")} cannot be read`;
  return "OK FETCH completed";
}

/** Does not give the content until the client has gone, or the fault is over: then the connection ends. */
async function withhold(session: Session, { number, message }: Numbered): Promise<void> {
  const client = { gone: false };
  void session.closed.then(() => (client.gone = true));
  const { faults } = session.server;
  if (faults.withholdContent === "trickle") {
    session.send(`* ${number} FETCH (UID ${message.uid} BODY[] {${message.raw.length + 100_000}}\r\n`);
  }
  while (!client.gone && faults.withholdContent) {
    if (faults.withholdContent === "trickle") session.send("x");
    await session.flush();
    await sleep(TRICKLE_MS);
  }
  session.end();
}

/** The pause between two bytes. */
const TRICKLE_MS = 100;

function writeFetch(session: Session, { number, message }: Numbered, items: FetchItem[]): void {
  let flagsToo = "";
  if (!session.readOnly && items.some((item) => item.marks) && !message.flags.has("\\Seen")) {
    const flags = new Set([...message.flags, "\\Seen"]);
    selected(session).setFlags(message, flags, session);
    flagsToo = ` FLAGS (${[...flags].join(" ")})`;
  }
  session.send(`* ${number} FETCH (`);
  for (const [index, item] of items.entries()) {
    if (index > 0) session.send(" ");
    for (const bytes of item.write(message)) session.send(bytes);
  }
  session.send(`${flagsToo})\r\n`);
}

function isModseq(item: FetchItem): boolean {
  return item.name === "MODSEQ";
}

function modifier(session: Session, argument: Argument | undefined, name: string): number | undefined {
  if (argument?.kind !== "list") return undefined;
  const at = argument.entries.findIndex((entry) => isAtom(entry, name));
  if (at < 0) return undefined;
  session.enabled.add("CONDSTORE");
  return Number(textOf(argument.entries[at + 1]));
}

function store(session: Session, { args }: Command, byUid: boolean): string {
  const folder = writable(session);
  const unchangedSince = modifier(session, args[1], "UNCHANGEDSINCE");
  const [what, list] = unchangedSince === undefined ? [args[1], args[2]] : [args[2], args[3]];
  const [, sign = "", silent] = /^([+-]?)FLAGS(\.SILENT)?$/i.exec(textOf(what)) ?? [undefined, "?"];
  if (sign === "?") throw new Refusal("BAD Expected FLAGS");
  const named = entriesOf(list).map((entry) => textOf(entry));
  const modified: number[] = [];
  for (const { number, message } of select(session.view, textOf(args[0]), byUid)) {
    if (unchangedSince !== undefined && message.modseq > unchangedSince) {
      modified.push(byUid ? message.uid : number);
      continue;
    }
    folder.setFlags(message, changedFlags(message, sign, named), session);
    const modseq = session.enabled.has("CONDSTORE") ? ` MODSEQ (${message.modseq})` : "";
    const uid = byUid ? `UID ${message.uid} ` : "";
    if (!silent) session.send(`* ${number} FETCH (${uid}FLAGS (${[...message.flags].join(" ")})${modseq})\r\n`);
    else if (modseq) session.send(`* ${number} FETCH (${uid}${modseq.trim()})\r\n`);
  }
  return modified.length > 0 ? `OK [MODIFIED ${asSet(modified)}] Conditional STORE failed` : "OK STORE completed";
}

function changedFlags(message: Message, sign: string, named: string[]): Set<string> {
  if (sign === "+") return new Set([...message.flags, ...named]);
  if (sign === "-") return new Set([...message.flags].filter((flag) => !named.includes(flag)));
  return new Set(named);
}

function find(session: Session, { args }: Command, byUid: boolean): string {
  selected(session);
  const found = search(session.view, args).map(({ number, message }) => (byUid ? message.uid : number));
  session.send(`* SEARCH${found.map((one) => ` ${one}`).join("")}\r\n`);
  return "OK SEARCH completed";
}

function duplicate(session: Session, { args }: Command, byUid: boolean): { code: string; messages: Message[] } {
  selected(session);
  const target = folderOf(session, textOf(args[1]), "TRYCREATE");
  const messages = select(session.view, textOf(args[0]), byUid).map((one) => one.message);
  if (messages.length === 0) return { code: "", messages };
  const copies = target.add(messages);
  const [from, to] = [messages, copies].map((list) => asSet(list.map((message) => message.uid)));
  const code = session.server.capabilities.uidplus ? `[COPYUID ${target.uidValidity} ${from} ${to}] ` : "";
  return { code, messages };
}

function copy(session: Session, command: Command, byUid: boolean): string {
  return `OK ${duplicate(session, command, byUid).code}COPY completed`;
}

function move(session: Session, command: Command, byUid: boolean): string {
  if (!session.server.capabilities.move) throw new Refusal("BAD Unknown command MOVE");
  const folder = writable(session);
  const { code, messages } = duplicate(session, command, byUid);
  if (code !== "") session.send(`* OK ${code}Moved\r\n`);
  folder.remove(messages);
  return "OK MOVE completed";
}

function expunge(session: Session, set: string, byUid: boolean): string {
  writable(session);
  const named = session.view.length === 0 ? [] : select(session.view, set, byUid);
  removeDeleted(
    session,
    named.map(({ message }) => message),
  );
  return "OK EXPUNGE completed";
}

function removeDeleted(session: Session, messages: Message[]): void {
  selected(session).remove(messages.filter((message) => message.flags.has("\\Deleted")));
}

function append(session: Session, { args }: Command): string {
  accountOf(session);
  const folder = folderOf(session, textOf(args[0]), "TRYCREATE");
  const content = args.at(-1);
  if (content?.kind !== "string" || args.length < 2) throw new Refusal("BAD Expected a literal");
  const flags = args.find((argument) => argument.kind === "list")?.entries.map((entry) => textOf(entry)) ?? [];
  const written = args.slice(1, -1).find((argument) => argument.kind === "string");
  const date =
    written === undefined
      ? new Date()
      : new Date(
          textOf(written)
            .trim()
            .replace(/^(\d+)-(\w+)-/, "$1 $2 "),
        );
  const [message] = folder.add([{ raw: Buffer.from(content.bytes), flags, internalDate: date }]);
  const code = session.server.capabilities.uidplus ? `[APPENDUID ${folder.uidValidity} ${message?.uid}] ` : "";
  return `OK ${code}APPEND completed`;
}

async function idle(session: Session): Promise<string> {
  if (!session.server.capabilities.idle) throw new Refusal("BAD Unknown command IDLE");
  accountOf(session);
  session.send("+ idling\r\n");
  session.idling = true;
  session.tellChanges();
  await session.flush();
  const line = await session.reader.line();
  session.idling = false;
  return /^done$/i.test(line?.toString().trim() ?? "") ? "OK IDLE completed" : "BAD Expected DONE";
}
