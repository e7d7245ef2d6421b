/** The content of single messages. It counts as complete only if the server's own numbers agree with it. */
import type { FetchMessageObject } from "imapflow";
import type { FetchedMessage, MessageRef } from "../../contract/message.ts";
import { Problem } from "../../contract/problem.ts";
import { sleep } from "../../time.ts";
import type { FetchResult } from "../mail.ts";
import { toProblem } from "../problems.ts";
import { readRow, toSequenceSet } from "./rows.ts";
import { isRefusal, type Session } from "./session.ts";

const QUERY = { uid: true, source: true, flags: true, internalDate: true, size: true } as const;
/** Problems of the whole account. They are no fault of the requested message. */
const ACCOUNT_CODES = new Set<Problem["code"]>(["throttled", "too_many_connections", "auth", "auth_method", "token"]);
/** Bytes before and after the end of a message that are requested again, to check whether that is its end. */
const TAIL_BYTES = 16;
const REFUSAL_PAUSE_MS = 300;

/** The result for each message, by uid. `short` is content that is shorter than announced. */
export type Downloads = Map<number, FetchResult | { ref: MessageRef; problem: Problem; short: FetchedMessage }>;

/**
 * Downloads in one command. `results` gets everything that came, complete or not. Throws when the server refuses the
 * command.
 */
export async function downloadInto(results: Downloads, session: Session, refs: MessageRef[]): Promise<void> {
  const byUid = new Map(refs.map((ref) => [ref.uid, ref]));
  for await (const row of session.client.fetch(toSequenceSet([...byUid.keys()]), QUERY, { uid: true })) {
    const ref = byUid.get(row.uid);
    // Flag changes by other clients also come as rows.
    if (ref) keep(results, ref, row);
  }
}

/**
 * Downloads one message. A failure goes into `results` as a Problem. Throws what concerns the account or the
 * connection.
 */
export async function downloadSingle(results: Downloads, session: Session, ref: MessageRef): Promise<void> {
  try {
    const nameless = await fetchAlone(results, session, ref).catch(async (error: unknown) => {
      if (!isRefusal(error)) throw error;
      await sleep(REFUSAL_PAUSE_MS, session.ended);
      return fetchAlone(results, session, ref);
    });
    if (!results.has(ref.uid) && nameless) await adoptNameless(results, session, ref, nameless);
    await checkEnd(results, session, ref);
  } catch (error) {
    if (!isRefusal(error)) throw error;
    results.set(ref.uid, { ref, problem: toRefusalProblem(error, ref) });
  }
}

/** Fetches one message. Returns the only row without a uid, if there is one. */
async function fetchAlone(
  results: Downloads,
  session: Session,
  ref: MessageRef,
): Promise<FetchMessageObject | undefined> {
  const nameless: FetchMessageObject[] = [];
  for await (const row of session.client.fetch(`${ref.uid}`, QUERY, { uid: true })) {
    if (row.uid === ref.uid) keep(results, ref, row);
    else if (!row.uid && row.source) nameless.push(row);
  }
  return nameless.length === 1 ? nameless[0] : undefined;
}

/** A row without UID is the requested message if SEARCH says that its sequence number belongs to that message. */
async function adoptNameless(
  results: Downloads,
  session: Session,
  ref: MessageRef,
  row: FetchMessageObject,
): Promise<void> {
  const numbers = await session.client.search({ uid: `${ref.uid}` });
  if (Array.isArray(numbers) && numbers.length === 1 && numbers[0] === row.seq) keep(results, ref, row);
}

/** Keeps what a row brings, unless something better came before. */
function keep(results: Downloads, ref: MessageRef, row: FetchMessageObject): void {
  const known = results.get(ref.uid);
  if (known && "raw" in known) return;
  const refined = readRow(ref, row);
  const { source } = row;
  if (!source) {
    if (!known) results.set(ref.uid, { ref, problem: toProblemOf(ref, "no content") });
  } else if (refined.size > 0 && source.length >= refined.size) {
    results.set(ref.uid, { ref: refined, raw: source, flags: flagsOf(row) });
  } else {
    const problem = toProblemOf(ref, `${source.length} of ${refined.size || "an unknown number of"} bytes`);
    const short = source.length > 0 ? { ref: refined, raw: source, flags: flagsOf(row) } : undefined;
    results.set(ref.uid, { ref, problem, ...(short && { short }) });
  }
}

function flagsOf({ flags }: FetchMessageObject): string[] {
  return [...(flags ?? [])].filter((flag) => flag !== "\\Recent");
}

/**
 * Some servers announce only an estimated size (Exchange), or none. Shorter content is complete if the server, asked for its last bytes
 * and those after them, gives its last bytes and no more.
 */
async function checkEnd(results: Downloads, session: Session, { uid }: MessageRef): Promise<void> {
  const found = results.get(uid);
  if (!found || !("short" in found)) return;
  const { raw } = found.short;
  const tail = Buffer.from(raw.subarray(-TAIL_BYTES));
  const query = { uid: true, source: { start: raw.length - tail.length, maxLength: tail.length + TAIL_BYTES } };
  for await (const row of session.client.fetch(`${uid}`, query, { uid: true }))
    if (row.uid === uid && row.source && tail.equals(row.source)) results.set(uid, found.short);
}

function toProblemOf({ uid, folder }: MessageRef, what: string): Problem {
  return new Problem("message", `The server gives ${what} of message ${uid} in ${folder}`);
}

function toRefusalProblem(error: unknown, ref: MessageRef): Problem {
  const problem = toProblem(error, { step: "command" });
  if (ACCOUNT_CODES.has(problem.code)) throw problem;
  const evidence = problem.evidence === null ? {} : { evidence: problem.evidence };
  return new Problem("message", `The server refuses to give message ${ref.uid} in ${ref.folder}`, evidence);
}
