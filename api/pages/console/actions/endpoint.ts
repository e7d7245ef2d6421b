/** One endpoint: how it is, and what can be done with it. */
import { html } from "hono/html";
import type { InferOutput } from "valibot";
import type { RotationView, TestReport } from "../../../endpoints/routes.ts";
import type { EndpointPause } from "../../../../shared/store/endpoint-pauses.ts";
import type { Html } from "../../html.ts";
import type { EndpointRow } from "../../../endpoints/overview.ts";
import { endpointMark } from "../endpoints.ts";
import { endpointHost } from "../shown-mailbox.ts";
import { button, doneNote, queryOf } from "../parts.ts";
import { toneMark } from "../states.ts";
import { countOf, foreign, relativeTime } from "../words.ts";

/** `prefix`: the token sees the mailboxes whose ids begin so. */
export type EndpointView = {
  base: string;
  query: URLSearchParams;
  row: EndpointRow;
  prefix: string;
  mayManage: boolean;
};

export function endpointBody({ base, query, row, prefix, mayManage: may }: EndpointView): Html {
  const { url, retrying, parked, oldest, last } = row;
  const host = endpointHost(url);
  const pause = row.pauses.find((one) => one.url === url && one.mailboxPrefix === prefix) ?? row.pauses[0];
  const isOwn = pause?.url === url && pause.mailboxPrefix === prefix;
  const fields = { url };
  const hours = html`<label>
    Hours in which the old secret signs too
    <input type="number" name="overlapHours" min="0" max="168" value="24" required />
  </label>`;
  return html`${doneNote(query)}
    <div id="endpoint" data-live>
      <p class="verdict">${endpointMark(row)} ${url}</p>
      ${pause ? pauseNote(pause) : ""}
      <dl>
        <dt>Mailboxes</dt>
        <dd><a href="${base}/mailboxes${queryOf({ host })}">${row.mailboxes.toLocaleString("en")}</a></dd>
        <dt>Waiting</dt>
        <dd>
          <a href="${base}/deliveries${queryOf({ state: "retrying", host })}">${retrying.toLocaleString("en")}</a
          >${oldest === null ? "" : html`, the oldest ${relativeTime(oldest)}`}
        </dd>
        <dt>Parked</dt>
        <dd><a href="${base}/deliveries${queryOf({ state: "parked", host })}">${parked.toLocaleString("en")}</a></dd>
        <dt>Newest attempt</dt>
        <dd>
          ${last ? html`${relativeTime(last.at)}: ${last.problem === null ? `accepted, ${last.status}` : foreign(last.problem)}` : "none"}
        </dd>
      </dl>
      <div class="buttons">
        ${button({ path: `${base}/endpoints/test`, label: "Post a test message", may, look: "main", fields })}
        ${button({ path: `${base}/endpoints/pause`, label: "Pause deliveries", may, fields, because: pause ? "they are paused" : undefined })}
        ${button({ path: `${base}/endpoints/resume`, label: "Resume deliveries", may, fields, because: whyNotResume(url, pause, isOwn) })}
      </div>
    </div>
    <h2>The secret that signs its requests</h2>
    <p>
      All its mailboxes get one new secret. Until the hours are over each request has two signatures, so that the
      endpoint can change to the new secret at any time.
    </p>
    ${button({ path: `${base}/endpoints/rotate`, label: "Make a new secret", may, fields, inputs: hours })}
    <p><a href="${base}/endpoints">All endpoints</a></p>`;
}

function whyNotResume(url: string, pause: EndpointPause | undefined, isOwn: boolean): string | undefined {
  if (!pause) return "they are not paused";
  if (isOwn) return undefined;
  return pause.url === url ? `${pause.by} paused them for other mailboxes too` : `${pause.url} is paused as a whole`;
}

function pauseNote({ at, by, mailboxPrefix }: EndpointPause): Html {
  const whose = mailboxPrefix === "" ? "" : ` of the mailboxes whose ids begin with ${mailboxPrefix}`;
  return html`<p class="note bad">
    ${by} paused the deliveries${whose} ${relativeTime(at)}. Messages wait; this counts as no attempt.
  </p>`;
}

export function testReportBody(base: string, url: string, report: InferOutput<typeof TestReport>): Html {
  const { ok, status, ms, reason, words, mailbox, id } = report;
  return html`<p class="verdict">
      ${toneMark(ok ? "good" : "bad", ok ? "The endpoint accepted it." : "The endpoint did not accept it.")}
    </p>
    <dl>
      <dt>Status</dt>
      <dd>${status === null ? "no answer" : String(status)}</dd>
      <dt>Time</dt>
      <dd>${countOf(ms, "ms", "ms")}</dd>
      ${
        reason === null
          ? ""
          : html`<dt>Why</dt>
              <dd>${foreign(reason)}</dd>`
      }
      ${
        words === null
          ? ""
          : html`<dt>It said</dt>
              <dd><q>${foreign(words)}</q></dd>`
      }
      <dt>Signed by the secret of</dt>
      <dd><a href="${base}/mailboxes/${encodeURIComponent(mailbox)}">${mailbox}</a></dd>
      <dt>Message id</dt>
      <dd><code>${id}</code></dd>
    </dl>
    <p><a href="${base}/endpoints/one${queryOf({ url })}">Back to the endpoint</a></p>`;
}

export function rotationBody(base: string, url: string, rotation: InferOutput<typeof RotationView>): Html {
  const { secret, oldSecretUntil, mailboxes, changed, problems } = rotation;
  return html`<p class="verdict">
      ${toneMark(changed === mailboxes ? "good" : "bad", `${changed} of ${countOf(mailboxes, "mailbox", "mailboxes")} have the new secret.`)}
    </p>
    <p>Give it to the endpoint now. It is shown only this once.</p>
    <pre>${secret}</pre>
    <p>The old secret signs too until ${oldSecretUntil.slice(0, 16).replace("T", " ")} UTC.</p>
    ${
      changed === mailboxes
        ? ""
        : html`<p class="note bad">
            ${problems[0] ? foreign(`${problems[0].mailbox}: ${problems[0].cause}`) : "There was not enough time for all."}
            Send
            <code>POST /api/v1/endpoints/rotate-secret</code> with this secret for the others.
          </p>`
    }
    <p><a href="${base}/endpoints/one${queryOf({ url })}">Back to the endpoint</a></p>`;
}
