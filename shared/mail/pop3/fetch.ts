/** Downloads and deletes messages of a maildrop, by the names that they had when they were handed over. */
import type { FetchedMessage, MessageRef } from "../../contract/message.ts";
import { Problem } from "../../contract/problem.ts";
import { MAX_MESSAGE_BYTES } from "../net/excess.ts";
import { findByKey, fingerprintHead, type ListedMessage, type Listing, parseReceivedAt } from "./listing.ts";
import type { Maildrop } from "./maildrops.ts";
import type { Session } from "./session.ts";

export type FetchResult = FetchedMessage | { ref: MessageRef; problem: Problem };

/** The messages that the maildrop has, and those that this session does not see. */
export type FetchOutcome = { results: FetchResult[]; missing: MessageRef[] };

/** Downloads messages in one session. A refusal of one message does not stop the others. */
export async function downloadMessages(maildrop: Maildrop, refs: MessageRef[]): Promise<FetchOutcome> {
  const listing = await maildrop.listing();
  const named: PresentMessage[] = [];
  const [results, missing]: [FetchResult[], MessageRef[]] = [[], []];
  for (const ref of refs) {
    const listed = await findForDownload(maildrop.session, listing, ref);
    if (!listed) missing.push(ref);
    else if (listed === "unclear") results.push({ ref, problem: toSharedIdProblem() });
    else if (listed.size > MAX_MESSAGE_BYTES) results.push({ ref, problem: toTooLargeProblem(listed.size) });
    else named.push({ ref, listed });
  }
  const { certain: present, misnamed } = await checkNames(maildrop.session, named);
  for (const { ref } of misnamed) results.push({ ref, problem: toMisnamedProblem() });
  const short: (PresentMessage & { block: Buffer })[] = [];
  let at = 0;
  for await (const result of maildrop.session.fetchMessages(present.map(({ listed }) => listed))) {
    const one = present[at++];
    if (!one) continue;
    if ("refused" in result) results.push({ ref: one.ref, problem: toMessageProblem(result.refused) });
    else if (result.block.length === 0 || result.block.length < one.listed.size)
      short.push({ ...one, block: result.block });
    else results.push(toFetched(one.ref, result.block));
  }
  for (const one of short) results.push(await downloadAgain(maildrop, one));
  return { results, missing };
}

/**
 * The message that a ref means. If several share its id now, it is the only one that has the size that the ref had. If
 * the size does not tell, and the ref had this id alone, one of the names is wrong now, and nobody knows which.
 */
async function findForDownload(
  session: Session,
  listing: Listing,
  ref: MessageRef,
): Promise<ListedMessage | "unclear" | undefined> {
  const found = await findByKey(session, listing, ref.key ?? "");
  const [id = "", print] = (ref.key ?? "").split(" ");
  if (!found?.sharesId || print !== undefined) return found;
  const sameSize = listing.messages.filter(({ key, size }) => key.split(" ")[0] === id && size === ref.size);
  if (sameSize.length === 1) return sameSize[0];
  return ref.perhapsKnown ? found : "unclear";
}

type PresentMessage = { ref: MessageRef; listed: ListedMessage };

/**
 * Asks for the unique id of each of these messages alone: a list may give a message the name of another one, which
 * would count as handed over. Without an answer the list is believed.
 */
async function checkNames(
  session: Session,
  named: PresentMessage[],
): Promise<{ certain: PresentMessage[]; misnamed: PresentMessage[] }> {
  const withId = named.filter(({ listed }) => idOf(listed.key) !== "");
  const ids = await session.uidlsOf(withId.map(({ listed }) => listed.number));
  const misnamed = withId.filter(({ listed }, at) => ids[at] !== undefined && ids[at] !== idOf(listed.key));
  return { certain: named.filter((one) => !misnamed.includes(one)), misnamed };
}

/** The unique id in a key; empty if the server has none. */
function idOf(key: string): string {
  return key.split(" ")[0] ?? "";
}

/**
 * Downloads a message that came shorter than announced once more. Many servers announce sizes that are not exact. So
 * the message is whole if the same bytes come again.
 */
async function downloadAgain(
  { session }: Maildrop,
  { ref, listed, block }: PresentMessage & { block: Buffer },
): Promise<FetchResult> {
  for await (const again of session.fetchMessages([listed])) {
    if ("refused" in again) return { ref, problem: toMessageProblem(again.refused) };
    if (again.block.length >= listed.size && again.block.length > 0) return toFetched(ref, again.block);
    if (block.length > 0 && block.equals(again.block)) return toFetched(ref, block);
  }
  const cause = `The server gives ${block.length} of ${listed.size} bytes of the message`;
  return { ref, problem: new Problem("message", cause) };
}

function toFetched(ref: MessageRef, block: Buffer): FetchedMessage {
  return { ref: { ...withReceivedAt(ref, block), head: fingerprintHead(block) }, raw: block, flags: [] };
}

/** The headers of those messages that this session sees and whose headers the server gives. */
export async function fetchHeaders(
  maildrop: Maildrop,
  refs: MessageRef[],
): Promise<{ ref: MessageRef; head: Uint8Array }[]> {
  const listing = await maildrop.listing();
  const present: { ref: MessageRef; number: number }[] = [];
  for (const ref of refs) {
    const listed = await findByKey(maildrop.session, listing, ref.key ?? "");
    if (listed) present.push({ ref, number: listed.number });
  }
  const heads: { ref: MessageRef; head: Uint8Array }[] = [];
  let at = 0;
  for await (const result of maildrop.session.fetchHeaders(present.map(({ number }) => number))) {
    const ref = present[at++]?.ref;
    if (ref && "block" in result) heads.push({ ref, head: result.block });
  }
  return heads;
}

/** At the hand-over only the time of the comparison was known. The message itself says more. */
function withReceivedAt(ref: MessageRef, raw: Buffer): MessageRef {
  return { ...ref, receivedAt: new Date(parseReceivedAt(raw, Date.parse(ref.receivedAt))).toISOString() };
}

/** A problem of the whole account is not this message's fault. */
function toMessageProblem(problem: Problem): Problem {
  if (problem.code !== "protocol") throw problem;
  const evidence = problem.evidence === null ? {} : { evidence: problem.evidence };
  return new Problem("message", "The server does not give this message", evidence);
}

function toTooLargeProblem(bytes: number): Problem {
  return new Problem("message", `The message is too large (${bytes} bytes)`);
}

function toSharedIdProblem(): Problem {
  return new Problem("message", "The server gives the unique id of this message to another message as well");
}

function toMisnamedProblem(): Problem {
  return new Problem("message", "The server gives this message another unique id when it is asked for it alone");
}

/**
 * Deletes messages and ends the session, because only its end commits the deletions (RFC 1939 section 6). Resolves with
 * messages that this session does not see. If a message shares its unique id and size with another one, it stays, and
 * so does one that has not the header of the message that was delivered: the server gave the name to another message.
 * Throws a refusal after the others are deleted.
 */
export async function deleteMessages(maildrop: Maildrop, refs: Iterable<MessageRef>): Promise<MessageRef[]> {
  const listing = await maildrop.listing();
  const messagesById = Map.groupBy(listing.messages, ({ key }) => key.split(" ")[0] ?? "");
  const found: PresentMessage[] = [];
  const missing: MessageRef[] = [];
  for (const ref of refs) {
    const listed = await findUnambiguous(maildrop.session, { listing, messagesById }, ref);
    if (listed === undefined) missing.push(ref);
    else if (listed !== "unclear") found.push({ ref, listed });
  }
  const { certain } = await checkNames(maildrop.session, found);
  const delivered = await filterDelivered(maildrop.session, certain);
  const numbers = new Set(delivered.map(({ listed }) => listed.number));
  if (numbers.size === 0) return missing;
  const refusal = await maildrop.session.dele([...numbers]);
  await maildrop.session.quit();
  if (refusal) throw refusal;
  return missing;
}

/**
 * Those that have the header of the message that was delivered under this name. Where TOP does not show it, the message
 * itself does. Tasks of 0.1 do not know the header.
 */
async function filterDelivered(session: Session, found: PresentMessage[]): Promise<PresentMessage[]> {
  const readHeaders = (list: ListedMessage[]) => session.fetchHeaders(list.map(({ number }) => number));
  const delivered = found.filter(({ ref }) => ref.head === undefined);
  let unproved = found.filter(({ ref }) => ref.head !== undefined);
  for (const read of [readHeaders, session.fetchMessages]) {
    const asked = unproved;
    unproved = [];
    let at = 0;
    for await (const result of read(asked.map(({ listed }) => listed))) {
      const one = asked[at++];
      if (one) {
        const isSame = "block" in result && fingerprintHead(result.block) === one.ref.head;
        (isSame ? delivered : unproved).push(one);
      }
    }
  }
  return delivered;
}

async function findUnambiguous(
  session: Session,
  { listing, messagesById }: { listing: Listing; messagesById: Map<string, ListedMessage[]> },
  ref: MessageRef,
): Promise<ListedMessage | "unclear" | undefined> {
  const key = ref.key ?? "";
  const [id = ""] = key.split(" ");
  const group = id === "" ? [] : (messagesById.get(id) ?? []);
  if (group.length <= 1) return findByKey(session, listing, key);
  const sameSize = group.filter(({ size }) => size === ref.size);
  return sameSize.length === 1 ? (sameSize[0] ?? "unclear") : "unclear";
}
