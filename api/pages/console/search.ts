/** What a search found, and the honest answer for what it did not find. */
import { html } from "hono/html";
import type { Delivery } from "../../../shared/contract/delivery.ts";
import type { Sending } from "../../../shared/contract/sending.ts";
import type { Html } from "../html.ts";
import { deliveryTable } from "./deliveries.ts";
import { type MeasuredRow, mailboxTable } from "./mailbox-list.ts";
import { sendingTable } from "./outgoing.ts";
import { queryOf, table } from "./parts.ts";
import type { ShownMailbox } from "./shown-mailbox.ts";
import { mailboxMark } from "./states.ts";
import { clockTime, countOf, foreign, relativeTime } from "./words.ts";

/** A time in which nobody listened to a mailbox. `to` is null while it lasts. */
export type Gap = { from: string; to: string | null; why: string };
/** A message that a mailbox's own filter left out. */
export type LeftOut = { mailbox: string; address: string; at: string; folder: string; rule: string };
export type MailboxAnswer = { item: ShownMailbox; gaps: Gap[]; newest: Delivery[] };

/**
 * How many stored messages were read, and whether those are all. `hasRecords`: delivered messages are recorded for
 * `days`. `next` is where a search of the records goes on that did not look at all of them.
 */
type Looked = { count: number; isWhole: boolean; hasRecords: boolean; days: number; next: string | null };

export type SearchView = {
  base: string;
  q: string;
  /** Mailboxes with this very address or id. */
  exact: MailboxAnswer[];
  /** Other mailboxes, by a part of their address, name, id, server or endpoint. */
  similar: MeasuredRow[];
  delivery: Delivery | undefined;
  sendings: Sending[];
  /** Deliveries whose message has it, with what is known of the message. */
  messages: Delivery[];
  /** The addresses of their mailboxes, by id. */
  addresses: ReadonlyMap<string, string>;
  leftOut: LeftOut[];
  read: Looked;
  /** The console must not show stored messages. */
  isHidden: boolean;
};

export function searchBody(view: SearchView): Html {
  const { base, q, exact, similar, delivery, sendings, messages, leftOut } = view;
  if (q === "")
    return html`<p>
      Type a word of a subject, a sender, a Message-ID, the address of a mailbox, a delivery id, or the host of a server
      or an endpoint.
    </p>`;
  const isNothing = [exact, similar, sendings, messages, leftOut].every((found) => found.length === 0) && !delivery;
  return html`${isNothing ? html`<p class="verdict">Nothing was found for <q>${foreign(q)}</q>.</p>` : ""}
  ${
    delivery
      ? html`<h2>Delivery</h2>
          ${deliveryTable([delivery], { base })}`
      : ""
  }
  ${messages.length > 0 ? messagePart(view) : ""} ${leftOut.length > 0 ? leftOutPart(leftOut, base) : ""}
  ${
    sendings.length > 0
      ? html`<h2>Outgoing</h2>
          ${sendingTable(sendings)}`
      : ""
  }
  ${exact.map((answer) => mailboxAnswer(answer, base))} ${similar.length > 0 ? similarPart(similar, base, q) : ""}
  ${honestWords(view, isNothing)}`;
}

function messagePart({ messages, addresses, base, q, read }: SearchView): Html {
  return html`<h2>Messages</h2>
    ${deliveryTable(messages, { base, addresses })}
    ${
      read.next === null
        ? ""
        : html`<p><a href="${base}/deliveries${queryOf({ text: q })}">All deliveries with this</a></p>`
    }`;
}

function leftOutPart(leftOut: LeftOut[], base: string): Html {
  const rows = leftOut.map(({ mailbox, address, at, folder, rule }) => [
    html`<a href="${base}/mailboxes/${encodeURIComponent(mailbox)}">${address}</a>`,
    relativeTime(at),
    foreign(folder),
    foreign(rule),
  ]);
  return html`<h2>Left out by a filter</h2>
    ${table(["Mailbox", "When", "Folder", "Rule"], rows)}`;
}

/** Which mailbox it is, and whether somebody listened when a message should have come. */
function mailboxAnswer({ item, gaps, newest }: MailboxAnswer, base: string): Html {
  const { mailbox, shown, state } = item;
  const id = encodeURIComponent(mailbox.id);
  const rows = gaps.map(({ from, to, why }) => [clockTime(from), to === null ? "now" : clockTime(to), foreign(why)]);
  return html`<h2>Mailbox <a href="${base}/mailboxes/${id}">${mailbox.address}</a></h2>
    <p>
      ${mailboxMark(shown)}, verified ${relativeTime(state.lastVerifiedAt)}, last mail
      ${relativeTime(state.lastArrivalAt)}. It is known here since ${relativeTime(mailbox.createdAt)}; mail from before
      ${mailbox.receive.since === "now" ? "that" : mailbox.receive.since} was not wanted.
    </p>
    ${
      rows.length > 0
        ? table(
            ["Not listened to from", "Until", "Why"],
            rows,
            "Mail of these times came later, when it was listened to again.",
          )
        : html`<p>Its last facts know of no time in which nobody listened.</p>`
    }
    ${
      newest.length > 0
        ? deliveryTable(newest, { base, caption: "Its newest deliveries" })
        : html`<p>It has no deliveries.</p>`
    }
    <p>
      A message that is missing here: the page of <a href="${base}/mailboxes/${id}">the mailbox</a> looks for its
      Message-ID on the server, and a resync reads the folders again.
    </p>`;
}

function similarPart(similar: MeasuredRow[], base: string, q: string): Html {
  return html`<h2>Mailboxes</h2>
    ${mailboxTable(similar, base)}
    <p>
      <a href="${base}/mailboxes${queryOf({ q })}">All with this in their address</a> ·
      <a href="${base}/mailboxes${queryOf({ host: q })}">all with this server or endpoint</a>
    </p>`;
}

/** What the search cannot know. */
function honestWords({ read, q, isHidden }: SearchView, isNothing: boolean): Html {
  if (isHidden)
    return html`<p class="soft">
      Subjects, senders and Message-IDs were not looked up, because this service does not show messages here
      (CONSOLE_BODIES=off).
    </p>`;
  const stored = `${read.isWhole ? "all" : "the newest"} ${countOf(read.count, "message")} that ${
    read.count === 1 ? "waits or is parked" : "wait or are parked"
  }`;
  const hint = q.includes("@")
    ? "If it is the sender of a message that never came, search for the address that it was sent to."
    : "If a message never came, search for the address that it was sent to.";
  return html`<p class="soft">
    Subjects, senders and Message-IDs were looked up in ${recordWords(read)}, and in ${stored}. ${isNothing ? hint : ""}
  </p>`;
}

function recordWords({ hasRecords, next, days }: Looked): string {
  if (!hasRecords)
    return "no records, because new ones have nothing of their messages (KEEP_SUBJECTS=off; delivered messages are found by their delivery id)";
  const kept = `the records of deliveries, which are kept for ${countOf(days, "day")} after the delivery`;
  return next === null ? kept : `the newest of ${kept}`;
}
