/** Outgoing messages: the newest of all mailboxes that send, and a table of sendings for other pages. */
import { html } from "hono/html";
import { SendState } from "../../../shared/contract/sending.ts";
import type { Sending } from "../../../shared/contract/sending.ts";
import { type Html, inlineMarkdown } from "../html.ts";
import { select, table, textInput } from "./parts.ts";
import { sendMark } from "./states.ts";
import { countOf, foreign, relativeTime } from "./words.ts";

export type OutgoingView = {
  base: string;
  filter: { state: string; mailbox: string };
  sendings: Sending[];
  /** How many mailboxes that send were asked, and whether those are all. */
  senders: number;
  isWhole: boolean;
};

export function outgoingBody({ base, filter, sendings, senders, isWhole }: OutgoingView): Html {
  const states = SendState.options.map((state): [string, string] => [state, state]);
  const about = isWhole ? "" : ` Only the first ${countOf(senders, "mailbox", "mailboxes")} that send were asked.`;
  const empty = senders === 0 ? "No mailbox sends: none has `send`." : "Nothing that matches was sent lately.";
  return html`<form class="row" action="${base}/outgoing">
      ${select({ name: "state", label: "State", any: "any state", value: filter.state, options: states })}
      ${textInput("mailbox", "Mailbox id", filter.mailbox)}
      <button>Filter</button>
      <a class="button" href="${base}/outgoing">Clear</a>
    </form>
    <p class="soft">
      ${inlineMarkdown(
        "`unknown`: the server's answer was lost, so the message may have arrived, and it is never sent again. `bounced`: the server accepted it, and it came back later.",
      )}
    </p>
    <div id="outgoing" data-live>
      ${
        sendings.length === 0
          ? html`<p>${inlineMarkdown(empty)}${about}</p>`
          : sendingTable(sendings, `The newest ${countOf(sendings.length, "message")}.${about}`)
      }
    </div>`;
}

export function sendingTable(sendings: Sending[], caption?: string): Html {
  const rows = sendings.map(({ state, recipients, createdAt, attempts, reason, id }) => [
    sendMark(state),
    html`${recipients.map(
      (one) =>
        html`<div>
          ${foreign(one.address)} ${one.state === state ? "" : sendMark(one.state)}
          ${one.response ? html`<span class="soft">${foreign(one.response)}</span>` : ""}
        </div>`,
    )}`,
    relativeTime(createdAt),
    String(attempts),
    foreign(reason),
    html`<code>${id}</code>`,
  ]);
  return table(["State", "To", "Accepted", "Attempts #", "Reason", "Id"], rows, caption);
}
