/** The protocol record of a mailbox: whether it is on, its newest lines, and the whole of it to download. */
import { html } from "hono/html";
import type { Mailbox } from "../../../../shared/contract/mailbox.ts";
import type { Html } from "../../html.ts";
import { button } from "../parts.ts";
import { toneMark } from "../states.ts";
import { countOf, relativeTime } from "../words.ts";

export type RecordPageView = {
  base: string;
  mailbox: Mailbox;
  /** Undefined if there is none. `isOn` says whether it goes on. */
  record: { text: string; until: string; isOn: boolean } | undefined;
  may: boolean;
};

const SHOWN_LINES = 200;

export function recordBody({ base, mailbox, record, may }: RecordPageView): Html {
  const path = `${base}/mailboxes/${encodeURIComponent(mailbox.id)}`;
  const lines = record?.text.split("\n").filter((line) => line !== "") ?? [];
  const isOn = record?.isOn === true;
  return html`<p>
      For 15 minutes all nodes write down what is said with the mail servers of this mailbox. Passwords and tokens are
      hidden, and of messages there is only the size. Requests to servers that give tokens are not recorded.
    </p>
    <div id="record" data-live>
      <p class="verdict">
        ${isOn ? toneMark("good", "It is on.") : toneMark("off", "It is off.")}
        ${record ? html`<span class="soft">${isOn ? "It ends" : "It ended"} ${relativeTime(record.until)}.</span>` : ""}
      </p>
      <div class="buttons">
        ${button({ path: `${path}/record`, label: record ? "Begin anew" : "Begin", may, look: "main", because: isOn ? "it is on" : undefined })}
        ${button({ path: `${path}/record/stop`, label: "Stop", may, because: isOn ? undefined : "it is off" })}
        ${record ? html`<a class="button" href="${path}/record/download" download>Download</a>` : ""}
      </div>
      ${
        lines.length === 0
          ? html`<p>Nothing has been recorded${isOn ? " yet. A test of the connection is recorded too." : "."}</p>`
          : html`<p>${countOf(lines.length, "line")}, the newest last. The last ${SHOWN_LINES} are shown.</p>
              <pre tabindex="0">${lines.slice(-SHOWN_LINES).join("\n")}</pre>`
      }
    </div>
    <p><a href="${path}">Back to ${mailbox.address}</a></p>`;
}
