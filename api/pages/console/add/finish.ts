/** The last steps of adding a mailbox: its folders, and the page that waits for its first mail. */
import { html } from "hono/html";
import type { Delivery } from "../../../../shared/contract/delivery.ts";
import type { PreflightReport } from "../../../../shared/mail/mail.ts";
import type { Html } from "../../html.ts";
import { deliveryTable } from "../deliveries.ts";
import { preflightTable, problemNote } from "../mailbox.ts";
import { button, hiddenFields } from "../parts.ts";
import type { ShownMailbox } from "../shown-mailbox.ts";
import { mailboxMark, toneMark } from "../states.ts";
import { durationOf, foreign } from "../words.ts";
import { secretPart } from "./find.ts";

export type FolderChoice = { path: string; selectable: boolean };
type FoldersView = {
  base: string;
  id: string;
  address: string;
  report: PreflightReport;
  /** Empty for a protocol without folders. */
  folders: readonly FolderChoice[];
  /** The mailbox with its password, encrypted. */
  draft: string;
  refusal?: string;
};

const MOST_FOLDERS = 200;

/** After a test that passed: which folders, and since when. */
export function foldersBody({ base, id, address, report, folders, draft, refusal }: FoldersView): Html {
  const choices = folders.filter(({ selectable }) => selectable).slice(0, MOST_FOLDERS);
  return html`${refusal ? html`<p class="note bad" role="alert">${foreign(refusal)}</p>` : ""}
    <p class="verdict">${toneMark("good", `${address} works: every step passed.`)}</p>
    <details>
      <summary>The steps of the test</summary>
      ${preflightTable(report)}
    </details>
    <form method="post" action="${base}/mailboxes/${encodeURIComponent(id)}/added">
      ${hiddenFields({ draft })} ${choices.length > 0 ? folderPart(choices) : ""}
      <fieldset>
        <legend>Which messages</legend>
        <div class="row">
          <label>Received since (empty: only what arrives from now on) <input type="date" name="since" /></label>
        </div>
      </fieldset>
      <div class="buttons"><button class="main">Register</button></div>
    </form>`;
}

function folderPart(choices: readonly FolderChoice[]): Html {
  return html`<fieldset>
    <legend>Which folders</legend>
    <div class="checks">${choices.map(({ path }) => folderBox(path))}</div>
    <label class="check"><input type="checkbox" name="all" value="on" /> All folders, new ones too</label>
    <p class="soft">Without a choice it is INBOX.</p>
  </fieldset>`;
}

function folderBox(path: string): Html {
  return html`<label class="check">
    <input type="checkbox" name="folder" value="${path}" ${path.toUpperCase() === "INBOX" ? "checked" : ""} />
    ${foreign(path)}
  </label>`;
}

/** What the endpoint did with a test message. */
type EndpointTest = { ok: boolean; status: number | null; ms: number; reason: string | null };

export type AddedView = {
  base: string;
  may: boolean;
  item: ShownMailbox;
  /** Shown only in the answer to the registration. */
  secret?: string | undefined;
  newest: Delivery | undefined;
  endpointTest?: EndpointTest | undefined;
};

/** The page after the registration. Its live part shows the first mail when it is there. */
export function addedBody({ base, may, item, secret, newest, endpointTest }: AddedView): Html {
  const { mailbox, problem } = item;
  const id = encodeURIComponent(mailbox.id);
  return html`<p class="verdict">${toneMark("good", `${mailbox.address} is registered.`)}</p>
    ${secretPart(secret)} ${endpointTest ? endpointNote(endpointTest) : ""}
    <div class="buttons">
      ${button({ path: `${base}/mailboxes/${id}/added`, label: "Post a test to the endpoint", may, fields: { do: "ping" } })}
    </div>
    <div id="first-mail" data-live>
      <p>${mailboxMark(item.shown)}</p>
      ${problem ? problemNote(item) : ""}
      ${
        newest
          ? html`<h2>Its first mail is here</h2>
              ${deliveryTable([newest], { base })}`
          : html`<p>Send a mail to ${mailbox.address}. It is shown here when it arrives.</p>`
      }
    </div>
    <div class="buttons">
      <a class="button" href="${base}/mailboxes/${id}">Open the mailbox</a>
      <a class="button" href="${base}/mailboxes/${id}/added">Look again</a>
      <a class="button" href="${base}/mailboxes/add">Add another mailbox</a>
    </div>`;
}

function endpointNote({ ok, status, ms, reason }: EndpointTest): Html {
  const words = ok
    ? `The endpoint accepted a test message with ${status} after ${durationOf(ms)}.`
    : "The endpoint did not accept a test message.";
  return html`<div class="note ${ok ? "good" : "bad"}" role="status">
    <p>${words}</p>
    ${reason === null ? "" : html`<p>${foreign(reason)}</p>`}
  </div>`;
}
