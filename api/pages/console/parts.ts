/** Parts that the pages of the console share: tables, buttons, forms with filters, notes about what was done. */
import { html, raw } from "hono/html";
import type { Html } from "../html.ts";
import { READ_ONLY_ID } from "./layout.ts";
import { countOf } from "./words.ts";

export type Cell = Html | string;
/** A column by its name; a name that ends with " #" is of numbers. */
type Column = string;

/** A table. On a phone each row is a block, and each cell after the first says its column. */
export function table(columns: Column[], rows: Cell[][], caption?: Cell): Html {
  const isNumber = (column: Column | undefined) => column?.endsWith(" #") === true;
  const nameOf = (column: Column | undefined) => column?.replace(/ #$/, "") ?? "";
  return html`<table>
    ${
      caption
        ? html`<caption>
            ${caption}
          </caption>`
        : ""
    }
    <thead>
      <tr>
        ${columns.map(
          (column) => html`<th scope="col" class="${isNumber(column) ? "number" : ""}">${nameOf(column)}</th>`,
        )}
      </tr>
    </thead>
    <tbody>
      ${rows.map(
        (row) =>
          html`<tr>
            ${row.map(
              (cell, n) =>
                html`<td class="${isNumber(columns[n]) ? "number" : ""}" ${n > 0 ? label(nameOf(columns[n])) : ""}>
                  ${cell}
                </td>`,
            )}
          </tr>`,
      )}
    </tbody>
  </table>`;
}

function label(name: string): Html {
  return html`data-label="${name}"`;
}

export type ButtonSpec = {
  /** The whole path, with the service's prefix. */
  path: string;
  label: string;
  /** False for somebody who may not change anything: the strip on the page says why. */
  may: boolean;
  /** Why it makes no sense now. */
  because?: string | undefined;
  look?: "main" | "danger" | undefined;
  fields?: Record<string, string> | undefined;
  /** Further inputs. */
  inputs?: Cell | undefined;
};

/** A form with one button. A disabled button says why. */
export function button({
  path,
  label: text,
  may,
  because,
  look = undefined,
  fields = {},
  inputs = "",
}: ButtonSpec): Html {
  const reason = may ? html`<small>${because}</small>` : "";
  const disabled = may ? "disabled" : html`disabled aria-describedby="${READ_ONLY_ID}"`;
  return html`<form class="${inputs === "" ? "plain" : "row"}" method="post" action="${path}">
    ${hiddenFields(fields)} ${inputs}
    ${
      may && !because
        ? html`<button class="${look ?? ""}">${text}</button>`
        : html`<button ${disabled}>${text}${reason}</button>`
    }
  </form>`;
}

export function hiddenFields(fields: Record<string, string>): Html[] {
  return Object.entries(fields).map(([name, value]) => html`<input type="hidden" name="${name}" value="${value}" />`);
}

type SelectSpec = {
  name: string;
  label: string;
  any?: string;
  value: string | undefined;
  options: [value: string, word: string][];
};

/** A list to choose from; `any` is an entry for everything. */
export function select({ name, label: text, any, value, options }: SelectSpec): Html {
  const choice = (one: string, word: string) =>
    html`<option value="${one}" ${one === (value ?? "") ? raw("selected") : ""}>${word}</option>`;
  return html`<label>
    ${text}
    <select name="${name}">
      ${any === undefined ? "" : choice("", any)} ${options.map(([one, word]) => choice(one, word))}
    </select>
  </label>`;
}

/** `attributes` are written as they are. */
export function textInput(name: string, text: string, value: string | undefined, attributes = ""): Html {
  return html`<label>${text} <input name="${name}" value="${value ?? ""}" ${raw(attributes)} /></label>`;
}

/** The query of a URL with these members, without those that are empty. */
export function queryOf(members: Record<string, string | null | undefined>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(members)) if (value) query.set(name, value);
  return query.size === 0 ? "" : `?${query}`;
}

export function pager(
  path: string,
  members: Record<string, string | null | undefined>,
  next: string | null,
): Html | string {
  if (next === null) return "";
  return html`<p><a class="button" href="${path}${queryOf({ ...members, after: next })}">Next page</a></p>`;
}

/** What an action did. The page after it says so. */
const DONE: Record<string, (count: number) => string> = {
  pause: (count) => `${countOf(count, "mailbox is", "mailboxes are")} paused now.`,
  resume: (count) => `${countOf(count, "mailbox starts", "mailboxes start")} again.`,
  resync: (count) =>
    `${countOf(count, "message")} found and handed over. What was delivered before is not delivered twice.`,
  hold: () => "The deliveries to this endpoint are paused. All nodes notice it within a second.",
  release: (count) =>
    `The deliveries go on. ${countOf(count, "message")} that waited ${count === 1 ? "goes" : "go"} out at once.`,
  edit: () => "The changes are saved.",
  confirm: () => "The mailbox goes on and delivers what it asked about.",
  remove: () => "The mailbox and everything about it is deleted. Nothing changed on the mail server.",
  replay: (count) => `${countOf(count, "delivery is", "deliveries are")} attempted again now.`,
  nothing: () => "No delivery was selected, so nothing was done.",
  tasks: (count) => `${countOf(count, "task is", "tasks are")} in the queue again.`,
};

/** The note about the action that led to this page, by `done`, `n` and `failed` in its query. */
export function doneNote(query: URLSearchParams): Html | string {
  const sentence = DONE[query.get("done") ?? ""];
  if (!sentence) return "";
  const failed = Number(query.get("failed") ?? 0);
  const more = failed > 0 ? ` ${countOf(failed, "other")} could not be changed.` : "";
  return html`<p class="note ${failed > 0 ? "bad" : "good"}" role="status">
    ${sentence(Number(query.get("n") ?? 1) || 0)}${more}
  </p>`;
}
