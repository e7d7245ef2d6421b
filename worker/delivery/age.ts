/**
 * Decides whether a message is new. Its place does not decide: an old message that somebody files, or that a moved
 * server shows as new, is not new.
 */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import type { FetchedMessage } from "../../shared/contract/message.ts";
import type { DeliverTask } from "../../shared/contract/task.ts";
import { parseHeadersOnly } from "../../shared/mail/mime/message.ts";
import { toIsoDate } from "../../shared/mail/mime/values/dates.ts";
import { getMailboxStart } from "../../shared/mail/since.ts";
import { clock } from "../../shared/time.ts";

const DAY_MS = 24 * 3_600_000;
/**
 * If a folder is read again and the server's dates are new, a message counts as old only when its own date is this much
 * before the mailbox's start.
 */
const REREAD_MARGIN_MS = 7 * DAY_MS;
/** No header with a message's dates is longer. */
const MAX_HEADER_BYTES = 256 * 1024;

/**
 * Why a message is not delivered, because it was received before the mailbox's `since`; undefined when it may be new.
 * The server's date alone does not decide, because servers have wrong ones: the message's own dates (Received, Date)
 * must agree. If the server reports no date, or new ones after it renumbered a folder, the own dates of a message that
 * was there before decide.
 */
export function findAgeReason(
  mailbox: Mailbox,
  { ref, raw }: FetchedMessage,
  backlog: DeliverTask["backlog"],
): string | undefined {
  // POP3 servers report no dates. The POP3 listing decides what is new.
  if (mailbox.receive.protocol === "pop3") return undefined;
  const start = getMailboxStart(mailbox);
  const since = Math.max(start, backlog ? Date.parse(backlog.since) : start);
  const isServerOld = !ref.undated && Date.parse(ref.receivedAt) < since;
  if (!isServerOld && backlog === undefined) return undefined;
  const own = newestOwnDate(raw);
  if (isServerOld) return own === undefined || own < since ? OLD : undefined;
  const bound = ref.undated ? since : start - REREAD_MARGIN_MS;
  const isJudged = ref.undated || backlog?.kind === "reread";
  return isJudged && own !== undefined && own < bound ? OLD : undefined;
}

const OLD = "received before the mailbox's `since`";

/** The newest possible date in a message's header, from the last hop or from its author, in milliseconds. */
function newestOwnDate(raw: Uint8Array): number | undefined {
  const { date, headers } = parseHeadersOnly(raw.subarray(0, MAX_HEADER_BYTES), "");
  const received = headers
    .filter(([name]) => name === "received")
    .map(([, value]) => Date.parse(toIsoDate(value.slice(value.lastIndexOf(";") + 1)) ?? ""));
  const times = [...received, date === null ? Number.NaN : Date.parse(date)].filter(
    (time) => time <= clock.now() + DAY_MS,
  );
  return times.length === 0 ? undefined : Math.max(...times);
}
