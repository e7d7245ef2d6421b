/** The list of mailboxes, with its filters and what can be done with all that match. */
import { html } from "hono/html";
import type { MailboxOrder } from "../../../shared/store/measured/mailbox-order.ts";
import type { Html } from "../html.ts";
import { BAR_LEGEND, BAR_SPAN, dayBar, wordsOfDay } from "./measured/bar.ts";
import type { Tick } from "./measured/day.ts";
import { button, doneNote, pager, queryOf, select, table, textInput } from "./parts.ts";
import { endpointHost, serverHost, type ShownMailbox } from "./shown-mailbox.ts";
import { MAILBOX_WORDS, mailboxMark } from "./states.ts";
import { breakable, countOf, foreign, latencyText, relativeTime } from "./words.ts";

/** What a list of mailboxes is filtered by. An empty text is no filter. */
export type MailboxFilter = { state: string; protocol: string; host: string; q: string };
/** A mailbox with the ticks of its last day and the latency of its last message in milliseconds. */
export type MeasuredRow = ShownMailbox & { ticks: Tick[]; latencyMs: number | null };
export type MailboxListView = {
  base: string;
  query: URLSearchParams;
  filter: MailboxFilter;
  /** Undefined: by id. */
  order: MailboxOrder | undefined;
  /** False for those who see only some mailboxes: the store has no order of those. */
  mayOrder: boolean;
  items: MeasuredRow[];
  /** Where the next page begins. */
  next: string | null;
  /** How many match; undefined if that would mean to read them all. */
  total: number | undefined;
  mayManage: boolean;
};

const BAR_COLUMN = `${BAR_SPAN.charAt(0).toUpperCase()}${BAR_SPAN.slice(1)}`;

const ORDERS: [MailboxOrder, string][] = [
  ["state", "state, worst first"],
  ["lastMail", "last mail, newest first"],
];

const PROTOCOLS: [string, string][] = [
  ["imap", "IMAP"],
  ["pop3", "POP3"],
  ["ews", "Exchange"],
  ["graph", "Microsoft Graph"],
];

export function mailboxListBody(view: MailboxListView): Html {
  const { base, filter, order, items, next, total, query } = view;
  const isFiltered = Object.values(filter).some((value) => value !== "");
  return html`${doneNote(query)}
    <p><a class="button" href="${base}/mailboxes/add">Add a mailbox</a></p>
    ${filterForm(view)}
    <div id="mailboxes" data-live>
      ${
        items.length === 0
          ? html`<p>${emptySentence(isFiltered, next)}</p>`
          : mailboxTable(
              items,
              base,
              total === undefined ? `${items.length} shown` : countOf(total, "mailbox", "mailboxes"),
            )
      }
      ${pager(`${base}/mailboxes`, { ...filter, sort: order }, next)}
    </div>
    ${items.length === 0 ? "" : bulkButtons(view)}`;
}

function emptySentence(isFiltered: boolean, next: string | null): string {
  if (!isFiltered) return "No mailbox yet.";
  const where = next === null ? "" : " among those looked at so far; the next page goes on";
  return `No mailbox matches these filters${where}. Clear them to see all.`;
}

function filterForm({ base, filter, order, mayOrder }: MailboxListView): Html {
  const { state, protocol, host, q } = filter;
  return html`<form class="row" action="${base}/mailboxes">
    ${select({ name: "state", label: "State", any: "any state", value: state, options: MAILBOX_WORDS.map((one) => [one.state, one.word]) })}
    ${select({ name: "protocol", label: "Protocol", any: "any protocol", value: protocol, options: PROTOCOLS })}
    ${textInput("host", "Server or endpoint", host)} ${textInput("q", "Address, id or name", q)}
    ${mayOrder ? select({ name: "sort", label: "Sort by", any: "id", value: order, options: ORDERS }) : ""}
    <button>Filter</button>
    <a class="button" href="${base}/mailboxes">Clear</a>
  </form>`;
}

export function mailboxTable(items: MeasuredRow[], base: string, caption?: string): Html {
  const columns = [
    "Address",
    "State",
    BAR_COLUMN,
    "Last verified",
    "Last mail",
    "Latency #",
    "Protocol",
    "Server",
    "Endpoint",
    "Node",
  ];
  const rows = items.map(({ mailbox, state, shown, problem, ticks, latencyMs }) => [
    html`<a href="${base}/mailboxes/${encodeURIComponent(mailbox.id)}">${breakable(mailbox.address)}</a>${
        mailbox.name ? html` <span class="soft">${foreign(mailbox.name)}</span>` : ""
      }`,
    html`${mailboxMark(shown)}${problem ? html`<div class="soft">${foreign(problem.cause)}</div>` : ""}`,
    html`${dayBar(ticks)}<span class="words">${wordsOfDay(ticks)}</span>`,
    relativeTime(state.lastVerifiedAt),
    relativeTime(state.lastArrivalAt),
    latencyMs === null ? "none" : latencyText(latencyMs),
    mailbox.receive.protocol,
    breakable(serverHost(mailbox)),
    breakable(endpointHost(mailbox.deliver.url)),
    state.node ?? "none",
  ]);
  return html`${table(columns, rows, caption)}
    <p class="soft">${BAR_LEGEND}</p>`;
}

const BULK_BUTTONS = [
  ["pause", "Pause all that match…"],
  ["resume", "Resume all that match…"],
  ["test", "Test all that match…"],
  ["resync", "Read all that match again…"],
] as const;

function bulkButtons({ base, filter, mayManage }: MailboxListView): Html {
  return html`<div class="buttons">
    ${BULK_BUTTONS.map(([action, text]) =>
      mayManage
        ? html`<a class="button" href="${base}/bulk/new${queryOf({ action, ...filter })}">${text}</a>`
        : button({ path: `${base}/bulk`, label: text, may: false }),
    )}
    <a class="button" href="${base}/bulk">Bulk actions</a>
  </div>`;
}
