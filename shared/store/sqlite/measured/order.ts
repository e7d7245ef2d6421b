/** Mailboxes in an order, by the indexes of their states in SQLite. */
import { type OrderedMailboxes, STATUS_ORDER } from "../../measured/mailbox-order.ts";
import { decodePageToken, encodePageToken } from "../../page-token.ts";
import type { Database } from "../database.ts";
import { text } from "../row.ts";

export function sqliteOrderedMailboxes(db: Database): OrderedMailboxes {
  return {
    async list({ order, limit, after }) {
      const place = after === undefined ? undefined : decodePageToken(after, 2);
      const found = order === "state" ? listByState(db, limit, place) : listByLastMail(db, limit, place);
      return found.map(([key, id]) => ({ id, place: encodePageToken([key, id]) }));
    },
  };
}

type Placed = [key: string, id: string];

function listByState(db: Database, limit: number, [first = "", last = ""]: string[] = []): Placed[] {
  const statuses = STATUS_ORDER.slice(
    Math.max(
      0,
      STATUS_ORDER.findIndex((status) => status === first),
    ),
  );
  const found: Placed[] = [];
  for (const status of statuses) {
    const sql = "select mailbox from states where status = ? and mailbox > ? order by mailbox limit ?";
    const rows = db.all(sql, status, status === first ? last : "", limit - found.length);
    found.push(...rows.map((row): Placed => [status, text(row, "mailbox")]));
    if (found.length >= limit) break;
  }
  return found;
}

/** Mailboxes without mail have no time, and no time is before another one. */
function listByLastMail(db: Database, limit: number, [at = "", last = ""]: string[] = []): Placed[] {
  const isAmongOthers = at === "" && last !== "";
  const dated = "select last_arrival_at, mailbox from states where last_arrival_at is not null";
  const before = at === "" ? "" : "and (last_arrival_at, mailbox) < (?, ?)";
  const sql = `${dated} ${before} order by last_arrival_at desc, mailbox desc limit ?`;
  const rows = isAmongOthers ? [] : db.all(sql, ...(at === "" ? [] : [at, last]), limit);
  const found = rows.map((row): Placed => [text(row, "last_arrival_at"), text(row, "mailbox")]);
  if (found.length >= limit) return found;
  const others =
    "select mailbox from states where last_arrival_at is null and mailbox < ? order by mailbox desc limit ?";
  const rest = db.all(others, isAmongOthers ? last : AFTER_ALL_IDS, limit - found.length);
  return [...found, ...rest.map((row): Placed => ["", text(row, "mailbox")])];
}

const AFTER_ALL_IDS = "~";
