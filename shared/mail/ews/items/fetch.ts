/** Downloading messages by their ids, a few at a time, so that what is in memory stays bounded. */
import type { FetchedMessage, MessageRef } from "../../../contract/message.ts";
import { Problem } from "../../../contract/problem.ts";
import { mimeOf } from "./mime-content.ts";
import type { EwsSession } from "../client/session.ts";

/** Messages held in memory at once: the server does not wait for whoever works on them. */
const AT_ONCE_BYTES = 4 * 1024 * 1024;
const AT_ONCE_MESSAGES = 50;

type Fetched = FetchedMessage | { ref: MessageRef; problem: Problem };
type Named = MessageRef & { key: string };

/** The fetch of MailConnection. Messages that another protocol named are `gone`: the subscription hands them over once more. */
export async function* fetchOver(
  session: EwsSession,
  messages: MessageRef[],
  signal: AbortSignal,
): AsyncGenerator<Fetched, void, undefined> {
  const named = messages.filter((ref): ref is Named => ref.key !== undefined);
  if (named.length < messages.length) throw unnamed();
  for (const portion of portions(named)) yield* await downloaded(session, portion, signal);
}

function unnamed(): Problem {
  const cause = "The messages have no Exchange ids: they are found again by the subscription";
  return new Problem("gone", cause, { retry: "never" });
}

async function downloaded(session: EwsSession, refs: Named[], signal: AbortSignal): Promise<Fetched[]> {
  const byKey = new Map(refs.map((ref) => [ref.key, ref]));
  const fetched: Fetched[] = [];
  for await (const one of mimeOf(session, [...byKey.keys()], signal)) {
    const ref = byKey.get(one.id);
    if (!ref || ("problem" in one && one.problem === "gone")) continue;
    if ("raw" in one) fetched.push({ ref, raw: one.raw, flags: one.flags });
    else if (one.problem !== "gone") fetched.push({ ref, problem: one.problem });
  }
  return fetched;
}

/** Bounded in count and bytes; a large message is alone. */
function portions(refs: Named[]): Named[][] {
  const all: Named[][] = [];
  let bytes = 0;
  for (const ref of refs) {
    const open = all.at(-1);
    bytes += ref.size;
    if (open && open.length < AT_ONCE_MESSAGES && bytes <= AT_ONCE_BYTES) {
      open.push(ref);
    } else {
      all.push([ref]);
      bytes = ref.size;
    }
  }
  return all;
}
