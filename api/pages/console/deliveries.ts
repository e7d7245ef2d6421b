/** Deliveries: the list with its filters, the parked ones grouped by reason, and one delivery with its attempts. */
import { html } from "hono/html";
import type { Delivery } from "../../../shared/contract/delivery.ts";
import type { ParkedTask } from "../../../shared/queue/queue.ts";
import { isHeld } from "../../../shared/store/endpoint-pauses.ts";
import type { Html } from "../html.ts";
import { button, doneNote, hiddenFields, pager, queryOf, select, table, textInput } from "./parts.ts";
import { endpointHost } from "./shown-mailbox.ts";
import { deliveryMark } from "./states.ts";
import { breakable, countOf, foreign, relativeTime } from "./words.ts";

/** What a list of deliveries is filtered by. An empty text is no filter. `text` is null where nobody may ask for it. */
export type DeliveryFilter = { text: string | null; state: string; mailbox: string; host: string; reason: string };
export type DeliveryGroup = { host: string; reason: string; count: number; newest: string };
export type DeliveryListView = {
  base: string;
  query: URLSearchParams;
  filter: DeliveryFilter;
  /** The mailbox as it was asked for, by its id or its address, and the ids of others with this address. */
  typed: string;
  alike: string[];
  items: Delivery[];
  next: string | null;
  total: number | undefined;
  /** The addresses of their mailboxes, by id. */
  addresses: ReadonlyMap<string, string>;
  /** Of parked ones: those with one endpoint and one reason together. */
  groups: DeliveryGroup[];
  /** Parked tasks, or why they cannot be listed. */
  tasks: ParkedTask[] | string;
  mayManage: boolean;
};

const STATES: [string, string][] = [
  ["retrying", "retrying"],
  ["parked", "parked"],
  ["delivered", "delivered"],
];

export function deliveryListBody(view: DeliveryListView): Html {
  const { base, filter, typed, items, next, total, query, groups, addresses, mayManage } = view;
  const count = total === undefined ? `${items.length} shown` : countOf(total, "delivery", "deliveries");
  return html`${doneNote(query)} ${filterForm(base, { ...filter, mailbox: typed })} ${alikeNote(view)}
    ${groups.length > 1 ? groupTable(base, filter, groups) : ""}
    <div id="list" data-live>
      ${
        items.length === 0
          ? html`<p>
              ${next === null ? "No delivery matches." : "None among those looked at so far; the next page goes on."}
            </p>`
          : deliveryTable(items, {
              base,
              caption: count,
              addresses,
              selectedBy: mayManage ? SELECTION : undefined,
              isSelected: query.get("select") === "all",
            })
      }
      ${pager(`${base}/deliveries`, filter, next)} ${items.length > 0 ? replays(view) : ""} ${taskPart(view)}
    </div>`;
}

/** The form that has the check boxes of the list. */
const SELECTION = "selected";

function filterForm(base: string, { text, state, mailbox, host, reason }: DeliveryFilter): Html {
  return html`<form class="row" action="${base}/deliveries">
    ${text === null ? "" : textInput("text", "Subject, sender or Message-ID", text)}
    ${select({ name: "state", label: "State", any: "any state", value: state, options: STATES })}
    ${textInput("mailbox", "Mailbox", mailbox)} ${textInput("host", "Endpoint host", host)}
    ${textInput("reason", "Reason", reason)}
    <button>Filter</button>
    <a class="button" href="${base}/deliveries">Clear</a>
  </form>`;
}

function alikeNote({ base, filter, alike }: DeliveryListView): Html | string {
  if (alike.length === 0) return "";
  const link = (mailbox: string) =>
    html` <a href="${base}/deliveries${queryOf({ ...filter, mailbox })}"><code>${mailbox}</code></a>`;
  return html`<p>
    These are the deliveries of the mailbox <code>${filter.mailbox}</code>. Others have the same address:
    ${alike.map(link)}
  </p>`;
}

type DeliveryTableOptions = {
  base: string;
  caption?: string;
  addresses?: ReadonlyMap<string, string>;
  selectedBy?: string | undefined;
  isSelected?: boolean;
};

/**
 * With `addresses`, by the id of the mailbox, a column names each mailbox. With `selectedBy` each row has a check box
 * that belongs to the form with this id.
 */
export function deliveryTable(items: Delivery[], options: DeliveryTableOptions): Html {
  const { base, caption, addresses, selectedBy, isSelected = false } = options;
  const mailboxColumn = addresses ? ["Mailbox"] : [];
  const columns = [
    "Message",
    "State",
    "Received",
    ...mailboxColumn,
    "Endpoint",
    "Tries #",
    "Newest answer",
    "Next try",
  ];
  const mailboxCell = (id: string) =>
    html`<a href="${base}/mailboxes/${encodeURIComponent(id)}">${breakable(addresses?.get(id) ?? id)}</a>`;
  const rows = items.map((one) => [
    html`<div class="letter">
      ${selectedBy === undefined ? "" : checkBox(one, selectedBy, isSelected)}
      <div>${messageLink(one, base)}</div>
    </div>`,
    deliveryMark(one.state),
    relativeTime(one.createdAt),
    ...(addresses ? [mailboxCell(one.mailbox)] : []),
    breakable(endpointHost(one.endpoint)),
    String(one.attemptCount),
    one.state === "delivered" ? String(one.attempts.at(-1)?.status ?? "") : foreign(one.reason),
    isHeld(one) ? "at the resume" : one.nextAttemptAt === null ? "none" : relativeTime(one.nextAttemptAt),
  ]);
  return table(columns, rows, caption);
}

function checkBox({ id, message }: Delivery, form: string, isSelected: boolean): Html {
  const label = `Select ${message?.subject ?? id}`;
  return html`<input
    type="checkbox"
    name="id"
    value="${id}"
    form="${form}"
    aria-label="${label}"
    ${isSelected ? "checked" : ""}
  />`;
}

/** The subject and the sender if the record has them, else the beginning of the id. */
export function messageLink({ id, message }: Delivery, base: string): Html {
  const name = message ? foreign(message.subject ?? "(no subject)") : html`<code>${id.slice(0, 16)}</code>`;
  const sender = message?.from ? html`<div class="soft">${foreign(message.from)}</div>` : "";
  return html`<a href="${base}/deliveries/${encodeURIComponent(id)}">${name}</a>${sender}`;
}

function groupTable(base: string, { text, state, mailbox }: DeliveryFilter, groups: DeliveryGroup[]): Html {
  const rows = groups.map(({ host, reason, count, newest }) => [
    html`<a href="${base}/deliveries${queryOf({ text, state, mailbox, host, reason })}">${foreign(reason)}</a>`,
    host,
    String(count),
    relativeTime(newest),
  ]);
  return html`<h2>By reason</h2>
    ${table(["Reason", "Endpoint", "Messages #", "Newest"], rows, "Of the newest 200")}`;
}

/** Replays what is selected, or all that match if a filter says which state they have. */
function replays({ base, filter, query, mayManage }: DeliveryListView): Html {
  const all = "Replay all that match…";
  const selection = "Replay the selected";
  if (!mayManage) return html`<div class="buttons">${button({ path: `${base}/bulk`, label: all, may: false })}</div>`;
  const place = { ...filter, text: filter.text ?? "", after: query.get("after") ?? "" };
  const hasAll = filter.state === "parked" || filter.state === "retrying";
  return html`<div class="buttons">
    <form id="${SELECTION}" class="plain" method="post" action="${base}/deliveries/replay">
      ${hiddenFields(place)}<button>${selection}</button>
    </form>
    ${hasAll ? html`<a class="button" href="${base}/bulk/new${queryOf({ action: "replay", ...filter })}">${all}</a>` : ""}
    <a class="button" href="${base}/bulk">Bulk actions</a>
    <a class="button" href="${base}/deliveries${queryOf({ ...place, select: "all" })}">Select all on this page</a>
  </div>`;
}

function taskPart({ base, filter, tasks, mayManage: may }: DeliveryListView): Html | string {
  if (filter.state !== "parked") return "";
  if (typeof tasks === "string")
    return html`<h2 id="tasks">Parked tasks</h2>
      <p class="note bad">${tasks}</p>`;
  if (tasks.length === 0) return "";
  const rows = tasks.map(({ task, reason, tries, parkedAt }) => [
    task?.kind ?? "unknown to this version",
    task?.mailbox ?? "",
    foreign(reason ?? "a worker died during it, or the broker gave it up"),
    String(tries),
    relativeTime(parkedAt),
  ]);
  return html`<h2 id="tasks">Parked tasks</h2>
    ${table(["Task", "Mailbox", "Reason", "Tries #", "Parked"], rows, "At most 50, the oldest first")}
    ${button({ path: `${base}/deliveries/tasks`, label: "Replay all parked tasks", may })}`;
}
