/**
 * Downloads the messages of a task. After a failure of the group its messages are requested one by one, so that a
 * message that cuts the connection, hangs or is denied does not stop the others. A fault of the mailbox itself is
 * recognised and counts against no message.
 */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import type { FetchedMessage, MessageRef } from "../../shared/contract/message.ts";
import { asProblem, type Problem } from "../../shared/contract/problem.ts";
import { OWN_CONNECTION, type ReaderPool } from "../mail/reader-pool.ts";
import { LineFull } from "../shares/lines.ts";

export type DownloadDeps = { readers: ReaderPool };

export type Downloads = {
  fetched: Map<MessageRef, FetchedMessage>;
  /** Messages that the server says it no longer has. */
  absent: MessageRef[];
  /** Messages that the server has and did not give. */
  failed: Map<MessageRef, Problem>;
  /** Why the mailbox cannot be read now. Messages in none of the lists above were not requested. */
  fault: Problem | null;
  /** Messages not requested because none of those before them came. Next time they go first. */
  postponed: MessageRef[];
};

/** These problems concern the login, the account or the network, whatever message was requested. */
const MAILBOX_CODES = new Set<Problem["code"]>([
  ...(["auth", "auth_method", "token", "access", "no_mailbox", "throttled", "too_many_connections"] as const),
  ...(["dns", "tls", "starttls", "egress", "autodiscover", "folder", "gone"] as const),
]);
/** After this many messages in a row that end the connection, without any that came, the server is left alone for now. */
const MAX_LOST_IN_A_ROW = 2;

/**
 * Downloads messages of one folder. `suspects` could not be downloaded before: each is requested alone, in the order
 * given, over a connection without a subscription. Throws only if the signal aborts, or `LineFull` if too many wait for
 * the mail host.
 */
export async function download(
  deps: DownloadDeps,
  mailbox: Mailbox,
  { messages, suspects }: { messages: MessageRef[]; suspects: ReadonlySet<MessageRef> },
  signal: AbortSignal,
): Promise<Downloads> {
  const downloads: Downloads = { fetched: new Map(), absent: [], failed: new Map(), fault: null, postponed: [] };
  const group = messages.filter((ref) => !suspects.has(ref));
  const bytes = group.reduce((sum, { size }) => sum + size, 0);
  const problem = await fetchInto(deps, mailbox, { downloads, refs: group, bytes }, signal);
  const rest = group.filter((ref) => isOpen(downloads, ref));
  const [only] = rest;
  if (problem && MAILBOX_CODES.has(problem.code)) downloads.fault = problem;
  else if (problem && only && rest.length === 1) downloads.failed.set(only, problem);
  else if (problem) await fetchOneByOne(deps, mailbox, { downloads, refs: rest }, signal);
  const isOver =
    downloads.fault !== null || (downloads.fetched.size === 0 && downloads.failed.size >= MAX_LOST_IN_A_ROW);
  if (!isOver)
    await fetchOneByOne(deps, mailbox, { downloads, refs: messages.filter((ref) => suspects.has(ref)) }, signal);
  if (downloads.fault === null) downloads.postponed = messages.filter((ref) => isOpen(downloads, ref));
  return downloads;
}

function isOpen({ fetched, absent, failed }: Downloads, ref: MessageRef): boolean {
  return !fetched.has(ref) && !failed.has(ref) && !absent.includes(ref);
}

async function fetchOneByOne(
  deps: DownloadDeps,
  mailbox: Mailbox,
  { downloads, refs }: { downloads: Downloads; refs: MessageRef[] },
  signal: AbortSignal,
): Promise<void> {
  let lostInARow = 0;
  for (const ref of refs) {
    const problem = await fetchInto(deps, mailbox, { downloads, refs: [ref], bytes: OWN_CONNECTION }, signal);
    if (problem && MAILBOX_CODES.has(problem.code)) {
      downloads.fault = problem;
      return;
    }
    if (problem) downloads.failed.set(ref, problem);
    lostInARow = problem ? lostInARow + 1 : 0;
    if (lostInARow >= MAX_LOST_IN_A_ROW && downloads.fetched.size === 0) return;
  }
}

/** Adds the results to the lists. Returns what ended the download before all messages were requested. */
async function fetchInto(
  deps: DownloadDeps,
  mailbox: Mailbox,
  { downloads, refs, bytes }: { downloads: Downloads; refs: MessageRef[]; bytes: number },
  signal: AbortSignal,
): Promise<Problem | undefined> {
  if (refs.length === 0) return undefined;
  const byUid = new Map(refs.map((ref) => [ref.uid, ref]));
  try {
    await deps.readers.use(
      mailbox,
      bytes,
      async (connection, progress) => {
        for await (const result of connection.fetch(refs, signal)) {
          progress();
          const ref = byUid.get(result.ref.uid);
          if (!ref) continue;
          if ("problem" in result) downloads.failed.set(ref, result.problem);
          else downloads.fetched.set(ref, result);
        }
      },
      signal,
    );
  } catch (error) {
    if (signal.aborted || error instanceof LineFull) throw error;
    return asProblem(error);
  }
  downloads.absent.push(...refs.filter((ref) => isOpen(downloads, ref)));
  return undefined;
}
