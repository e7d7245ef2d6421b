/**
 * Downloads messages by their ids, a few at a time, so that memory stays bounded. A message that the server does not
 * find by its id, but lists in its folder, is not gone.
 */
import type { MailboxOf } from "../../../contract/mailbox.ts";
import type { FetchedMessage, MessageRef } from "../../../contract/message.ts";
import { Problem } from "../../../contract/problem.ts";
import type { EwsSession } from "../client/session.ts";
import { toEvidence } from "../soap/errors.ts";
import { isListed } from "../sync/find-item.ts";
import { getWatchedFolders } from "../sync/folders.ts";
import { downloadMime } from "./mime-content.ts";

/** Messages in memory at once, because the server does not wait for a slow receiver. */
const BATCH_BYTES = 4 * 1024 * 1024;
const BATCH_MESSAGES = 50;

type Fetched = FetchedMessage | { ref: MessageRef; problem: Problem };
type KeyedRef = MessageRef & { key: string };

/**
 * `fetch` of MailConnection. Messages with another protocol's names are `gone`: the subscription hands them over again.
 * A message that the server does not find is looked for in its folder before it counts as gone.
 */
export async function* fetchMessages(
  session: EwsSession,
  { messages, mailbox }: { messages: MessageRef[]; mailbox: MailboxOf<"ews"> },
  signal: AbortSignal,
): AsyncGenerator<Fetched, void, undefined> {
  const keyed = messages.filter((ref): ref is KeyedRef => ref.key !== undefined);
  if (keyed.length < messages.length) throw missingKeysProblem();
  const notFound: KeyedRef[] = [];
  for (const batch of toBatches(keyed)) {
    const fetched = await downloadBatch(session, batch, signal);
    yield* fetched;
    const answered = new Set(fetched.map(({ ref }) => ref));
    notFound.push(...batch.filter((ref) => !answered.has(ref)));
  }
  if (notFound.length === 0) return;
  const folders = await getWatchedFolders(session, mailbox, signal);
  for (const ref of notFound) {
    const watchedFolder = folders.find(({ path }) => path === ref.folder);
    if (watchedFolder && (await isListed(session, watchedFolder, ref, signal)))
      yield { ref, problem: toListedProblem() };
  }
}

function toListedProblem(): Problem {
  return new Problem("message", "The server lists this message and does not find it by its id", {
    evidence: toEvidence("ErrorItemNotFound"),
  });
}

function missingKeysProblem(): Problem {
  const cause = "The messages have no Exchange ids; the subscription finds them again";
  return new Problem("gone", cause, { retry: "never" });
}

async function downloadBatch(session: EwsSession, refs: KeyedRef[], signal: AbortSignal): Promise<Fetched[]> {
  const byKey = new Map(refs.map((ref) => [ref.key, ref]));
  const fetched: Fetched[] = [];
  const announced = refs.reduce((sum, { size }) => sum + size, 0);
  for await (const one of downloadMime(session, [...byKey.keys()], signal, announced)) {
    const ref = byKey.get(one.id);
    if (!ref || ("problem" in one && one.problem === "gone")) continue;
    if ("raw" in one) {
      const { raw, flags, leftOut } = one;
      fetched.push({ ref, raw, flags, ...(leftOut && { leftOut }) });
    } else if (one.problem !== "gone") fetched.push({ ref, problem: one.problem });
  }
  return fetched;
}

/** Batches of bounded count and bytes. A large message is alone. */
function toBatches(refs: KeyedRef[]): KeyedRef[][] {
  const all: KeyedRef[][] = [];
  let bytes = 0;
  for (const ref of refs) {
    const open = all.at(-1);
    bytes += ref.size;
    if (open && open.length < BATCH_MESSAGES && bytes <= BATCH_BYTES) {
      open.push(ref);
    } else {
      all.push([ref]);
      bytes = ref.size;
    }
  }
  return all;
}
