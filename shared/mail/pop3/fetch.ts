/** Downloading from a maildrop and deleting from it, by the names the messages had when they were handed over. */
import type { FetchedMessage, MessageRef } from "../../contract/message.ts";
import { Problem } from "../../contract/problem.ts";
import { found, type Listed, type Listing, receivedAt } from "./listing.ts";
import type { Maildrop } from "./maildrops.ts";
import { LARGEST_MESSAGE } from "./session.ts";

export type Fetched = FetchedMessage | { ref: MessageRef; problem: Problem };

/** What a maildrop has of the messages, and which of them this session does not see. */
export type Portion = { got: Fetched[]; missing: MessageRef[] };

/** Downloads messages in one session; what one message is refused for keeps the others not back. */
export async function downloaded(maildrop: Maildrop, refs: MessageRef[]): Promise<Portion> {
  const listing = await maildrop.listing();
  const here: { ref: MessageRef; listed: Listed }[] = [];
  const [got, missing]: [Fetched[], MessageRef[]] = [[], []];
  for (const ref of refs) {
    const listed = found(listing, ref.key ?? "");
    if (!listed) missing.push(ref);
    else if (listed.size > LARGEST_MESSAGE) got.push({ ref, problem: tooLarge(listed.size) });
    else here.push({ ref, listed });
  }
  let at = 0;
  for await (const said of maildrop.session.messages(here.map(({ listed }) => listed.number))) {
    const ref = here[at++]?.ref;
    if (!ref) continue;
    if ("refused" in said) got.push({ ref, problem: notGiven(said.refused) });
    else got.push({ ref: dated(ref, said.block), raw: said.block, flags: [] });
  }
  return { got, missing };
}

/** The headers of those messages that this session sees and whose headers the server gives. */
export async function headed(maildrop: Maildrop, refs: MessageRef[]): Promise<{ ref: MessageRef; head: Uint8Array }[]> {
  const listing = await maildrop.listing();
  const here = refs.flatMap((ref) => {
    const listed = found(listing, ref.key ?? "");
    return listed ? [{ ref, number: listed.number }] : [];
  });
  const heads: { ref: MessageRef; head: Uint8Array }[] = [];
  let at = 0;
  for await (const said of maildrop.session.heads(here.map(({ number }) => number))) {
    const ref = here[at++]?.ref;
    if (ref && "block" in said) heads.push({ ref, head: said.block });
  }
  return heads;
}

/** When it was handed over only the time of the look was known; the message itself says more. */
function dated(ref: MessageRef, raw: Buffer): MessageRef {
  return { ...ref, receivedAt: new Date(receivedAt(raw, Date.parse(ref.receivedAt))).toISOString() };
}

/** What concerns the whole account is not this message's fault. */
function notGiven(refused: Problem): Problem {
  if (refused.code !== "protocol") throw refused;
  const evidence = refused.evidence === null ? {} : { evidence: refused.evidence };
  return new Problem("message", "The server does not give this message", evidence);
}

function tooLarge(bytes: number): Problem {
  return new Problem("message", `The message is larger than can be taken (${bytes} bytes)`);
}

/**
 * Deletes messages and ends the session, which alone commits that (RFC 1939 section 6). Resolves with those that this session does
 * not see. A message that cannot be told from another of the same unique id stays.
 */
export async function deleted(maildrop: Maildrop, refs: Iterable<MessageRef>): Promise<MessageRef[]> {
  const listing = await maildrop.listing();
  const sharing = Map.groupBy(listing.all, ({ key }) => key.split(" ")[0] ?? "");
  const numbers = new Set<number>();
  const missing: MessageRef[] = [];
  for (const ref of refs) {
    const meant = certain(listing, sharing, ref);
    if (meant === undefined) missing.push(ref);
    else if (meant !== "unclear") numbers.add(meant.number);
  }
  if (numbers.size === 0) return missing;
  await maildrop.session.dele([...numbers]);
  await maildrop.session.quit();
  return missing;
}

function certain(listing: Listing, sharing: Map<string, Listed[]>, ref: MessageRef): Listed | "unclear" | undefined {
  const key = ref.key ?? "";
  const [id = ""] = key.split(" ");
  const group = id === "" ? [] : (sharing.get(id) ?? []);
  if (group.length <= 1) return found(listing, key);
  const alike = group.filter(({ size }) => size === ref.size);
  return alike.length === 1 ? (alike[0] ?? "unclear") : "unclear";
}
