/** The page of what ends on a known day: secrets, certificates, tokens, and what a provider switches off. */
import { html } from "hono/html";
import type { CheckResult } from "../../checks/check.ts";
import type { Expiry } from "../../checks/upcoming.ts";
import type { Html } from "../html.ts";
import { clockTime, countOf, foreign, relativeTime } from "./words.ts";

/** `check` is the last look; undefined if the caller may not see it. */
export type UpcomingView = { base: string; check: CheckResult | undefined; soon: Expiry[]; later: Expiry[] };

const DENIED_ID = "needs-admin";

export function upcomingBody({ base, check, soon, later }: UpcomingView): Html {
  if (!check)
    return html`<p class="note" id="${DENIED_ID}">This view needs a token with the scope admin.</p>
      <button type="button" disabled aria-describedby="${DENIED_ID}">Look now</button>`;
  return html`${sentenceOf(check, soon)}
    <form class="plain" method="post" action="${base}/upcoming"><button class="main">Look now</button></form>
    ${soon.length > 0 ? listing("Within 30 days", soon) : ""} ${later.length > 0 ? listing("Later", later) : ""}
    <p class="soft">
      The service knows the days of certificates, of its own tokens, and of the servers of endpoints. Providers do not
      tell when a client secret or a consent ends: look there.
    </p>`;
}

function sentenceOf({ at, status, cause }: CheckResult, soon: Expiry[]): Html {
  if (at === null) return html`<p class="verdict off">Nobody has looked on this node yet.</p>`;
  const when = html`<p class="soft">Looked at ${clockTime(at)} on this node.</p>`;
  const urgent = soon.filter((one) => one.urgent).length;
  if (status === "failed" && soon.length === 0)
    return html`<p class="verdict bad">It could not be looked at: ${foreign(cause)}</p>
      ${when}`;
  const text =
    urgent > 0
      ? `${countOf(urgent, "thing needs", "things need")} you within 30 days.`
      : soon.length > 0
        ? `${countOf(soon.length, "thing ends", "things end")} within 30 days.`
        : "Nothing that is known ends within 30 days.";
  return html`<p class="verdict ${urgent > 0 ? "bad" : "good"}">${text}</p>
    ${when}`;
}

function listing(title: string, items: Expiry[]): Html {
  return html`<h2>${title}</h2>
    <table>
      <thead>
        <tr>
          <th scope="col">What</th>
          <th scope="col">When</th>
          <th scope="col">What to do</th>
        </tr>
      </thead>
      <tbody>
        ${items.map(
          ({ what, until, urgent, fix }) =>
            html`<tr>
              <td class="${urgent ? "" : "soft"}">${foreign(what)}</td>
              <td data-label="When">${until.slice(0, 10)} (${relativeTime(until)})</td>
              <td data-label="What to do">${foreign(fix)}</td>
            </tr>`,
        )}
      </tbody>
    </table>`;
}
