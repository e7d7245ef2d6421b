/** When the messages of a maildrop were received, by their headers. */
import { type ListedMessage, parseReceivedAt } from "./listing.ts";
import type { Maildrop } from "./maildrops.ts";

export type MessageWithUid = ListedMessage & { uid: number; perhapsKnown?: true };
/** `at` is when it was received, in ms. */
export type DatedMessage = MessageWithUid & { at: number };
/**
 * Messages received before `since` (ms) are left out; null means none are. `undatedReceivedAt` is the date of messages
 * without a date; null means now.
 */
type Wish = { newMessages: MessageWithUid[]; since: number | null; undatedReceivedAt: number | null };

/** So many older messages in a row end the search for messages since a date. */
const DATE_BATCH_SIZE = 100;

/**
 * Those new messages that were received since the comparison's date. Without a date nothing is asked of the server,
 * because they were seen now. Servers list messages in the order of arrival. So it goes from the end backwards, until
 * enough messages in a row are older, unless the beginning shows that this server has another order.
 */
export async function filterReceived(maildrop: Maildrop, wish: Wish, seenAt: number): Promise<DatedMessage[]> {
  const { newMessages, since, undatedReceivedAt } = wish;
  if (since === null) return newMessages.map((one) => ({ ...one, at: seenAt }));
  const fetchWanted = async (list: MessageWithUid[]) =>
    (await fetchDates(maildrop, list, undatedReceivedAt ?? seenAt, seenAt)).filter(({ at }) => at >= since);
  const byNumber = newMessages.toSorted((a, b) => a.number - b.number);
  const first = await fetchWanted(byNumber.slice(0, DATE_BATCH_SIZE));
  const found: DatedMessage[] = [];
  for (let end = byNumber.length; end > DATE_BATCH_SIZE; end -= DATE_BATCH_SIZE) {
    const some = await fetchWanted(byNumber.slice(Math.max(DATE_BATCH_SIZE, end - DATE_BATCH_SIZE), end));
    found.push(...some);
    if (some.length === 0 && first.length === 0) break;
  }
  return [...first, ...found].toSorted((a, b) => a.uid - b.uid);
}

/** `undatedReceivedAt` is the date of a message whose header the server does not give, in ms. */
export async function fetchDates(
  { session }: Maildrop,
  list: MessageWithUid[],
  undatedReceivedAt: number,
  seenAt: number,
): Promise<DatedMessage[]> {
  const dated: DatedMessage[] = [];
  for await (const result of session.fetchHeaders(list.map(({ number }) => number))) {
    const one = list[dated.length];
    if (one) dated.push({ ...one, at: "block" in result ? parseReceivedAt(result.block, seenAt) : undatedReceivedAt });
  }
  return dated;
}
