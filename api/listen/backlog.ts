/** Limits how many old messages of a folder that is read again are delivered without asking a person. */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import type { Arrival } from "../../shared/contract/message.ts";
import { Problem } from "../../shared/contract/problem.ts";
import type { Deliveries } from "../../shared/store/store.ts";
import { clock } from "../../shared/time.ts";

/** More unexpected messages than this do not arrive in the time in which a server renumbers a folder. */
const MAX_UNEXPECTED = 100;

/**
 * True if the messages of a folder that is read again are handed over, false if a person decided to skip them. Throws
 * `confirm` if they are many more than were delivered in that time. This happens after a server was moved and all its
 * messages have new dates.
 */
export async function mayHandOver(
  deliveries: Pick<Deliveries, "list">,
  mailbox: Mailbox,
  folder: string,
  backlog: Arrival["backlog"],
): Promise<boolean> {
  if (backlog?.kind !== "reread") return true;
  const { confirmed } = mailbox;
  if (confirmed && Date.parse(confirmed.until) > clock.now()) return confirmed.deliver;
  const { total = 0 } = backlog;
  if (total <= MAX_UNEXPECTED) return true;
  const { total: known } = await deliveries.list({ mailbox: mailbox.id, since: backlog.since, limit: 1 });
  const unexpected = total - known;
  if (unexpected <= MAX_UNEXPECTED) return true;
  throw new Problem(
    "confirm",
    `The mail server renumbered ${folder}; reading it again since ${backlog.since} would post ${unexpected} letters that are not known here`,
    { retry: "never" },
  );
}
