/** One mailbox: how it is in one sentence, what can be done, what happened, and what is known of its servers. */
import { html } from "hono/html";
import type { Delivery } from "../../../shared/contract/delivery.ts";
import type { Mailbox } from "../../../shared/contract/mailbox.ts";
import type { Cursor, MessageRef } from "../../../shared/contract/message.ts";
import type { Sending } from "../../../shared/contract/sending.ts";
import type { PreflightReport } from "../../../shared/mail/mail.ts";
import type { Page } from "../../../shared/store/store.ts";
import type { Fact } from "../../../shared/telemetry/events.ts";
import type { ConnectionView } from "../../records/connection.ts";
import { type Html, inlineMarkdown } from "../html.ts";
import { connectionFacts } from "./connection.ts";
import { deliveryTable } from "./deliveries.ts";
import type { MeasuredRow } from "./mailbox-list.ts";
import { BAR_LEGEND, BAR_SPAN, dayBar, wordsOfDay } from "./measured/bar.ts";
import { button, doneNote, table, textInput } from "./parts.ts";
import type { ShownMailbox } from "./shown-mailbox.ts";
import { sendingTable } from "./outgoing.ts";
import { mailboxMark, type ShownState, toneMark } from "./states.ts";
import { timeline } from "./timeline.ts";
import { countOf, foreign, latencyText, relativeTime } from "./words.ts";

export type MailboxPageView = {
  base: string;
  query: URLSearchParams;
  item: MeasuredRow;
  facts: Fact[];
  deliveries: Page<Delivery>;
  parked: number;
  cursors: Cursor[];
  outgoing: Page<Sending>;
  connection: ConnectionView | undefined;
  mayManage: boolean;
  today: string;
};

export function mailboxBody(view: MailboxPageView): Html {
  const { base, item, facts, deliveries, cursors, outgoing, parked, query } = view;
  const id = encodeURIComponent(item.mailbox.id);
  return html`${doneNote(query)}
    <div id="state" data-live>
      <p class="verdict">${mailboxMark(item.shown)} ${sentenceOf(item)}</p>
      ${dayOf(item)} ${problemNote(item)} ${parked > 0 ? parkedNote(base, id, parked) : ""}
    </div>
    <div id="buttons" data-live>${buttons(view, `${base}/mailboxes/${id}`)}</div>
    ${otherForms(view, `${base}/mailboxes/${id}`)}
    <div id="about" data-live>
      <h2>Deliveries</h2>
      ${
        deliveries.items.length === 0
          ? html`<p>No message has been delivered yet, or all were delivered before the window of WINDOW_DAYS.</p>`
          : deliveryTable(deliveries.items, { base })
      }
      <p><a href="${base}/deliveries?mailbox=${id}">All ${countOf(deliveries.total, "delivery", "deliveries")}</a></p>
      <h2>What happened</h2>
      ${timeline(facts)}
      <h2>Folders</h2>
      ${folderTable(cursors)}
      <h2>Connection</h2>
      ${connectionFacts(item, view.connection)}
      <h2>Outgoing</h2>
      ${outgoingTable(outgoing, item.mailbox)}
    </div>`;
}

const SENTENCES: Record<ShownState, string> = {
  listening: "Its server tells of new mail at once.",
  polling: "It is polled for new mail.",
  syncing: "It is being compared with its server.",
  initializing: "A node is about to connect to its server.",
  unverified: "It says that it listens, but its server has not confirmed that for too long.",
  throttled: "Its server asks to slow down. The service waits as long as the server asks.",
  reconnecting: "It is not connected now. The service tries again by itself.",
  needs_attention: "It needs you: the service cannot go on by itself.",
  paused: "Nobody listens to it until it is resumed.",
};

function sentenceOf({ shown, state }: ShownMailbox): Html {
  return html`${SENTENCES[shown]}
    <span class="soft"
      >In this state since ${relativeTime(state.since)}. Verified ${relativeTime(state.lastVerifiedAt)}, last mail
      ${relativeTime(state.lastArrivalAt)}.</span
    >`;
}

function dayOf({ ticks, latencyMs }: MeasuredRow): Html {
  const latency =
    latencyMs === null ? "" : ` The last message took ${latencyText(latencyMs)} from being seen to being accepted.`;
  return html`<p class="day-of">
      ${dayBar(ticks)} <span>State of the ${BAR_SPAN}: ${wordsOfDay(ticks)}.${latency}</span>
    </p>
    <p class="soft">${BAR_LEGEND}</p>`;
}

export function problemNote({ problem, state }: ShownMailbox): Html | string {
  if (!problem) return "";
  const { code, cause, fix, evidence, retryAt } = problem;
  return html`<div class="note bad">
    <p>${foreign(cause)}</p>
    ${evidence ? html`<p>The server said: <q>${foreign(evidence)}</q></p>` : ""}
    <p class="fix">${inlineMarkdown(fix)}</p>
    <p class="soft">
      ${code}${state.failedLogins > 0 ? `, ${countOf(state.failedLogins, "refused login")}` : ""}${
        retryAt ? html`, tried again ${relativeTime(retryAt)}` : ""
      }
    </p>
  </div>`;
}

function parkedNote(base: string, id: string, parked: number): Html {
  const link = html`<a href="${base}/deliveries?state=parked&amp;mailbox=${id}">Show and replay</a>`;
  return html`<p class="note bad">${countOf(parked, "message is", "messages are")} parked. ${link}</p>`;
}

function buttons({ item, mayManage: may, base }: MailboxPageView, path: string): Html {
  const { paused, id } = item.mailbox;
  const needsResume = paused || item.shown === "needs_attention";
  const asks = item.problem?.code === "confirm";
  return html`<div class="buttons">
    ${button({ path: `${path}/test`, label: "Test the connection", may, look: "main" })}
    ${button({ path: `${path}/pause`, label: "Pause", may, because: paused ? "it is paused" : undefined })}
    ${button({ path: `${path}/resume`, label: "Resume", may, because: needsResume ? undefined : "it is not paused" })}
    ${asks ? button({ path: `${path}/confirm`, label: "Deliver what it asks about", may }) : ""}
    <a class="button" href="${base}/diagnostics?mailbox=${encodeURIComponent(id)}">Diagnostics</a>
    <a class="button" href="${base}/mailboxes/${encodeURIComponent(id)}/record">Protocol record</a>
    ${
      may
        ? html`<a class="button" href="${base}/mailboxes/${encodeURIComponent(id)}/edit">Edit…</a>`
        : button({ path: `${path}/edit`, label: "Edit…", may })
    }
    ${
      may
        ? html`<a class="button" href="${base}/mailboxes/${encodeURIComponent(id)}/delete">Delete…</a>`
        : button({ path: `${path}/delete`, label: "Delete…", may })
    }
  </div>`;
}

function otherForms({ mayManage: may, today }: MailboxPageView, path: string): Html {
  const since = html`<label>
    Read again since
    <input type="date" name="since" value="${today}" required />
  </label>`;
  const messageId = textInput("messageId", "Message-ID of a mail that did not come", "", "required");
  return html`${button({ path: `${path}/look`, label: "Look on the server", may: true, inputs: messageId })}
  ${button({ path: `${path}/resync`, label: "Resync", may, inputs: since })}`;
}

function folderTable(cursors: Cursor[]): Html {
  if (cursors.length === 0) return html`<p>No folder has been compared yet.</p>`;
  const rows = cursors.map(({ folder, uid, epoch, newest }) => [
    foreign(folder),
    String(uid),
    foreign(epoch),
    relativeTime(newest),
  ]);
  return table(["Folder", "Handed over up to #", "Epoch", "Newest message"], rows);
}

function outgoingTable(outgoing: Page<Sending>, { send }: Mailbox): Html {
  if (outgoing.items.length === 0)
    return html`<p>
      ${inlineMarkdown(send ? "It has sent nothing within WINDOW_DAYS." : "It does not send: it has no `send`.")}
    </p>`;
  return sendingTable(outgoing.items);
}

/** The result of a test, with what the server said. */
export function testBody(base: string, { mailbox }: ShownMailbox, report: PreflightReport): Html {
  const words = report.ok ? "Every step passed." : "A step failed. Its row says what to do.";
  return html`<p class="verdict">${toneMark(report.ok ? "good" : "bad", words)}</p>
    ${preflightTable(report)}
    <p><a href="${base}/mailboxes/${encodeURIComponent(mailbox.id)}">Back to ${mailbox.address}</a></p>`;
}

export function preflightTable({ steps }: PreflightReport): Html {
  const rows = steps.map(({ name, ok, ms, detail, cause, fix }) => [
    toneMark(ok ? "good" : "bad", name),
    ok ? "passed" : "failed",
    `${Math.round(ms)} ms`,
    html`${[detail, cause].filter(Boolean).map((words) => html`<div>${foreign(words)}</div>`)}
    ${fix ? html`<div class="fix">${inlineMarkdown(fix)}</div>` : ""}`,
  ]);
  return table(["Step", "Result", "Time #", "What was found"], rows);
}

type Look = { messageId: string; found: MessageRef[] | undefined; cursors: Cursor[] };

/** Where the mail server has a message, and whether the service has handed it over. */
export function lookBody(base: string, { mailbox }: ShownMailbox, { messageId, found, cursors }: Look): Html {
  const path = `${base}/mailboxes/${encodeURIComponent(mailbox.id)}`;
  const rows = (found ?? []).map((ref) => [
    foreign(ref.folder),
    String(ref.uid),
    relativeTime(ref.receivedAt),
    wayOf(mailbox, ref, cursors),
  ]);
  const empty = found
    ? "The server has no message with this Message-ID in the folders that are watched. It was never there, it was moved or deleted, or it lies in another folder."
    : "This protocol cannot search for a Message-ID. A resync reads the mailbox again.";
  return html`<p class="verdict">${foreign(messageId)}</p>
    ${
      rows.length === 0
        ? html`<p>${empty}</p>`
        : table(["Folder", "Number #", "Received by the server", "What the service did"], rows)
    }
    <p><a href="${path}">Back to ${mailbox.address}</a></p>`;
}

function wayOf({ receive }: Mailbox, ref: MessageRef, cursors: Cursor[]): string {
  // The numbers of the other protocols are the service's own.
  if (receive.protocol !== "imap") return "The server has it. The deliveries show what was handed over.";
  const cursor = cursors.find(({ folder }) => folder === ref.folder);
  if (!cursor) return "Its folder has not been compared yet.";
  if (cursor.epoch !== ref.epoch) return "The server has renumbered the folder; it is about to be read again.";
  if (ref.uid > cursor.uid) return "It is not handed over yet: it comes with the next comparison.";
  return "It was handed over, left out by a filter, or older than the date from which mail is wanted. A resync hands it over again.";
}

/** Asks before a mailbox is deleted. */
export function deleteBody(base: string, { mailbox }: ShownMailbox, waiting: number): Html {
  const path = `${base}/mailboxes/${encodeURIComponent(mailbox.id)}`;
  const lost =
    waiting > 0 ? ` ${countOf(waiting, "message waits or is", "messages wait or are")} parked and will be lost.` : "";
  return html`<p class="verdict">Delete ${mailbox.address} and everything about it?</p>
    <p>Its state, its cursors and its deliveries go with it.${lost} Nothing changes on the mail server.</p>
    <div class="buttons">
      ${button({ path: `${path}/delete`, label: `Delete ${mailbox.address}`, may: true, look: "danger" })}
      <a class="button" href="${path}">Back to the mailbox</a>
    </div>`;
}
