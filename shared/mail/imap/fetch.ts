/** Downloading messages: one UID FETCH for many, by BODY.PEEK, so that no flag changes; one by one where a server balks. */
import type { FetchMessageObject, MailboxObject } from "imapflow";
import type { FetchedMessage, MessageRef } from "../../contract/message.ts";
import { Problem } from "../../contract/problem.ts";
import { problemOf } from "../problems.ts";
import { compact } from "./reconcile.ts";
import type { Session } from "./session.ts";

/**
 * Messages held in memory at once. A turn lasts as long as the server needs for these, not as long as their receiver does, so a
 * slow receiver keeps nobody from listening.
 */
const AT_ONCE_BYTES = 4 * 1024 * 1024;
const AT_ONCE_MESSAGES = 100;
/** The deadline of a download is its silence; this is the end of a server that drips. */
const DOWNLOAD_CAP_MS = 30 * 60 * 1000;

export type Fetched = FetchedMessage | { ref: MessageRef; problem: Problem };

/** The fetch of MailConnection over an open connection. */
export async function* fetchOver(
  session: Session,
  messages: MessageRef[],
  signal: AbortSignal,
): AsyncGenerator<Fetched, void, undefined> {
  for (const portion of portions(messages)) {
    const [{ folder }] = portion;
    const download = (box: MailboxObject) => {
      if (portion.some((ref) => ref.epoch !== String(box.uidValidity))) throw renumbered(folder);
      return downloaded(session, portion);
    };
    const options = { capMs: DOWNLOAD_CAP_MS };
    yield* await session.inFolder(folder, `Downloading from ${folder}`, download, signal, options);
  }
}

function renumbered(folder: string): Problem {
  return new Problem("gone", `The server renumbered ${folder}: its messages are found again by the subscription`, {
    retry: "never",
  });
}

type Portion = [MessageRef, ...MessageRef[]];

/** Messages of one folder each, uids ascending, bounded in count and bytes; a large message is alone. */
function portions(messages: MessageRef[]): Portion[] {
  const sorted = messages.toSorted((a, b) => (a.folder === b.folder ? a.uid - b.uid : a.folder < b.folder ? -1 : 1));
  const all: Portion[] = [];
  let bytes = 0;
  for (const ref of sorted) {
    const open = all.at(-1);
    bytes += ref.size;
    if (open && open[0].folder === ref.folder && open.length < AT_ONCE_MESSAGES && bytes <= AT_ONCE_BYTES) {
      open.push(ref);
    } else {
      all.push([ref]);
      bytes = ref.size;
    }
  }
  return all;
}

async function downloaded(session: Session, refs: MessageRef[]): Promise<Fetched[]> {
  const got = new Map<number, Fetched>();
  await singlyIfNeedBe(got, session, refs);
  const missing = refs.filter((ref) => !got.has(ref.uid));
  if (missing.length > 0) {
    // What came after this connection selected the folder is not there for it until it has heard of it: NOOP is the occasion.
    await session.client.noop();
    await singlyIfNeedBe(got, session, missing);
  }
  await leaveOutExpunged(got, session);
  return refs.flatMap((ref) => got.get(ref.uid) ?? []);
}

async function singlyIfNeedBe(got: Map<number, Fetched>, session: Session, refs: MessageRef[]): Promise<void> {
  try {
    await into(got, session, refs);
  } catch (error) {
    if (!isRefusal(error)) throw error;
    for (const ref of refs) {
      if (!got.has(ref.uid)) await single(got, session, ref);
    }
  }
}

/** A message that was deleted while this session had the folder open still has a number there, but no content (Dovecot). */
async function leaveOutExpunged(got: Map<number, Fetched>, { client }: Session): Promise<void> {
  const empty = [...got].filter(([, one]) => "problem" in one).map(([uid]) => uid);
  if (empty.length === 0) return;
  await client.noop();
  const found = await client.search({ uid: compact(empty) }, { uid: true });
  if (!Array.isArray(found)) return;
  for (const uid of empty) if (!found.includes(uid)) got.delete(uid);
}

async function single(got: Map<number, Fetched>, session: Session, ref: MessageRef): Promise<void> {
  try {
    await into(got, session, [ref]);
  } catch (error) {
    if (!isRefusal(error)) throw error;
    const said = problemOf(error, { step: "command" });
    // What concerns the whole account is not this message's fault.
    if (said.code !== "protocol" && said.code !== "folder") throw said;
    const evidence = said.evidence === null ? {} : { evidence: said.evidence };
    got.set(ref.uid, { ref, problem: new Problem("message", "The server does not give this message", evidence) });
  }
}

async function into(got: Map<number, Fetched>, session: Session, refs: MessageRef[]): Promise<void> {
  const byUid = new Map(refs.map((ref) => [ref.uid, ref]));
  const query = { uid: true, source: true, flags: true, internalDate: true };
  for await (const row of session.client.fetch(compact([...byUid.keys()]), query, { uid: true })) {
    const ref = byUid.get(row.uid);
    // Also flags that somebody else changes meanwhile come as rows.
    if (ref) got.set(row.uid, fetched(ref, row, got.get(row.uid)));
  }
}

function fetched(ref: MessageRef, row: FetchMessageObject, before: Fetched | undefined): Fetched {
  if (row.source) return { ref, raw: row.source, flags: [...(row.flags ?? [])].filter((flag) => flag !== "\\Recent") };
  return before ?? { ref, problem: new Problem("message", "The server gave no content for this message") };
}

/** A tagged NO or BAD on a connection that lives. */
function isRefusal(error: unknown): boolean {
  if (!(error instanceof Error) || Reflect.get(error, "code") === "ETHROTTLE") return false;
  return ["NO", "BAD"].includes(String(Reflect.get(error, "responseStatus")));
}
