/**
 * Downloads messages: one UID FETCH for many, with BODY.PEEK, so that no flag changes. A message that does not come, or
 * comes short, is requested again alone. Only SEARCH decides that a message is gone.
 */
import type { MailboxObject } from "imapflow";
import type { MessageRef } from "../../contract/message.ts";
import { Problem } from "../../contract/problem.ts";
import type { FetchResult } from "../mail.ts";
import { type Downloads, downloadInto, downloadSingle } from "./content.ts";
import { isSameEpoch } from "./epoch.ts";
import { search, toSequenceSet } from "./rows.ts";
import { isRefusal, type Session } from "./session.ts";

/**
 * Messages in memory at once. A turn on the connection lasts as long as the server needs for these, not as long as
 * their receiver needs. So a slow receiver does not stop the subscription.
 */
const MAX_BATCH_BYTES = 4 * 1024 * 1024;
const MAX_BATCH_MESSAGES = 100;
/** A download ends after a silence of the server. This limit ends a server that sends only a few bytes now and then. */
const MAX_DOWNLOAD_MS = 30 * 60 * 1000;

/** `fetch` of MailConnection over an open connection. */
export async function* fetchMessages(
  session: Session,
  messages: MessageRef[],
  signal: AbortSignal,
): AsyncGenerator<FetchResult, void, undefined> {
  for (const batch of splitIntoFetchBatches(messages)) {
    const [{ folder }] = batch;
    const results: Downloads = new Map();
    const download = async (box: MailboxObject) => {
      if (batch.some((ref) => !isSameEpoch(ref.epoch, box))) throw toRenumberedProblem(folder);
      session.expectContent(batch.reduce((sum, { size }) => sum + size, 0));
      await downloadBatch(results, session, batch);
    };
    const options = { capMs: MAX_DOWNLOAD_MS };
    const turn = session.runInFolder(folder, `Downloading from ${folder}`, download, signal, options);
    const failure = await turn.then(
      () => undefined,
      (error: unknown) => ({ error }),
    );
    for (const { uid } of batch) {
      const result = results.get(uid);
      if (result) yield "raw" in result ? result : { ref: result.ref, problem: result.problem };
    }
    if (failure) throw failure.error;
  }
}

function toRenumberedProblem(folder: string): Problem {
  return new Problem("gone", `The server renumbered ${folder}; the subscription finds its messages again`, {
    retry: "never",
  });
}

type FetchBatch = [MessageRef, ...MessageRef[]];

/** Batches of one folder each, uids ascending, bounded in count and bytes. A large message is alone. */
function splitIntoFetchBatches(messages: MessageRef[]): FetchBatch[] {
  const sorted = messages.toSorted((a, b) => (a.folder === b.folder ? a.uid - b.uid : a.folder < b.folder ? -1 : 1));
  const all: FetchBatch[] = [];
  let bytes = 0;
  for (const ref of sorted) {
    const open = all.at(-1);
    bytes += ref.size;
    if (open && open[0].folder === ref.folder && open.length < MAX_BATCH_MESSAGES && bytes <= MAX_BATCH_BYTES) {
      open.push(ref);
    } else {
      all.push([ref]);
      bytes = ref.size;
    }
  }
  return all;
}

/** Fills `results` with messages and refusals. Messages that the server says it no longer has are not in it. */
async function downloadBatch(results: Downloads, session: Session, refs: MessageRef[]): Promise<void> {
  try {
    await downloadInto(results, session, refs);
  } catch (error) {
    // One message of the group may be the reason, so each is requested alone.
    if (!isRefusal(error)) throw error;
  }
  const open = refs.filter(({ uid }) => !isWhole(results.get(uid)));
  if (open.length === 0) return;
  // The server may report new messages of the selected folder only with a command, so NOOP gives it the occasion.
  await session.client.noop();
  for (const ref of open) await downloadSingle(results, session, ref);
  const unanswered = refs.filter(({ uid }) => !isWhole(results.get(uid)));
  if (unanswered.length > 0) await dropExpunged(results, session, unanswered);
}

function isWhole(result: ReturnType<Downloads["get"]>): boolean {
  return result !== undefined && "raw" in result;
}

/**
 * For messages that did not come, SEARCH says which exist. Those stay as problems. If somebody deletes a message while
 * this session has its folder open, Dovecot still has a number for it, but no content.
 */
async function dropExpunged(results: Downloads, session: Session, refs: MessageRef[]): Promise<void> {
  await session.client.noop();
  const found = await search(session, { uid: toSequenceSet(refs.map(({ uid }) => uid)) });
  for (const ref of refs) {
    const exists = found === undefined || found.includes(ref.uid);
    if (!exists) results.delete(ref.uid);
    else if (!results.has(ref.uid)) results.set(ref.uid, { ref, problem: toRowlessProblem(ref) });
  }
}

function toRowlessProblem({ folder, uid }: MessageRef): Problem {
  return new Problem("message", `The server has message ${uid} in ${folder}, but answers FETCH without it`);
}
