/** The page of checks: one block for each, with its own button, and one button for all. It works without script. */
import { html } from "hono/html";
import type { CheckReport, CheckResult } from "../../checks/check.ts";
import { isRecord } from "../../http/field-errors.ts";
import type { Html } from "../html.ts";
import { clockTime, countOf, foreign } from "./words.ts";

/** `mailbox` and `address` are what the person typed. Without a report the caller may not see it. */
export type DiagnosticsView = {
  base: string;
  report: CheckReport | undefined;
  mailbox: string;
  address: string;
};

const FORM_ID = "run";
const DENIED_ID = "needs-admin";

export function diagnosticsBody({ base, report, mailbox, address }: DiagnosticsView): Html {
  const denied = html`<p class="note" id="${DENIED_ID}">
    Checks need a token with the scope admin, because they show the settings and reach every server.
  </p>`;
  return html`${report ? verdict(report) : denied}
    <form class="row" id="${FORM_ID}" method="post" action="${base}/diagnostics">
      <label>Mailbox (id or address) <input name="mailbox" value="${mailbox}" size="28" /></label>
      <label
        >Address of this service <input name="address" value="${address}" size="34" placeholder="as the CRM has it"
      /></label>
      <label class="check"><input type="checkbox" name="testMail" value="1" /> Send the mailbox a mail</label>
      ${runButton(report, "Run all", html`class="main"`)}
      ${runButton(report, "Run all and download the report", html`name="download" value="1"`)}
    </form>
    <p class="soft">
      A check has a deadline and changes nothing. The mail goes from the mailbox to its own address, and its endpoint
      gets it as every other. The report is JSON without secrets. <code>bun run doctor</code> does the same.
    </p>
    ${report?.checks.map((check) => block(report, check))}`;
}

function runButton(report: CheckReport | undefined, label: Html | string, attributes: Html): Html {
  if (!report) return html`<button type="button" disabled aria-describedby="${DENIED_ID}">${label}</button>`;
  return html`<button ${attributes}>${label}</button>`;
}

function verdict({ ok, node, checks }: CheckReport): Html {
  const failed = checks.filter(({ status }) => status === "failed").length;
  const idle = checks.filter(({ status }) => status === "not_run").length;
  const sentence =
    failed > 0
      ? `${countOf(failed, "check")} of ${checks.length} failed.`
      : ok === null
        ? "Nothing has been checked yet."
        : `What was checked is well; ${countOf(idle, "check")} did not run.`;
  return html`<p class="verdict ${failed > 0 ? "bad" : ok === null ? "off" : "good"}">${sentence}</p>
    <p class="soft">Results of the node ${node} since its start.</p>`;
}

const MARKS = {
  ok: { word: "ok", sign: "●", tone: "good" },
  failed: { word: "failed", sign: "■", tone: "bad" },
  not_run: { word: "not run", sign: "–", tone: "off" },
} as const;

function block(
  report: CheckReport,
  { name, title, status, detail, cause, fix, warnings, data, at, ms }: CheckResult,
): Html {
  const { word, sign, tone } = MARKS[status];
  const button = html`Run<span class="unseen"> ${title}</span>`;
  return html`<section id="check-${name}" aria-labelledby="title-${name}">
    <div class="head">
      <h2 id="title-${name}">
        ${title} <span class="state ${tone}"><span aria-hidden="true">${sign}</span> ${word}</span>
      </h2>
      ${runButton(report, button, html`form="${FORM_ID}" name="check" value="${name}"`)}
    </div>
    ${cause === undefined ? "" : html`<p class="${status === "failed" ? "note bad" : "soft"}">${foreign(cause)}</p>`}
    ${detail === undefined ? "" : html`<p>${foreign(detail)}</p>`}
    ${fix === undefined ? "" : html`<p class="fix">What to do: ${foreign(fix)}</p>`}
    ${warnings.map((text) => html`<p class="warn"><span aria-hidden="true">▲</span> ${foreign(text)}</p>`)}
    ${stepsOf(data)} ${data === undefined ? "" : details(data)}
    ${at === null ? "" : html`<p class="soft">Looked at ${clockTime(at)}, took ${ms ?? 0} ms.</p>`}
  </section>`;
}

function details(data: Record<string, unknown>): Html {
  return html`<details>
    <summary>Details</summary>
    <pre tabindex="0">${JSON.stringify(data, null, 2)}</pre>
  </details>`;
}

/** The steps of a mailbox that was tried, or of a mail that was followed. */
function stepsOf(data: Record<string, unknown> | undefined): Html | string {
  const steps = Array.isArray(data?.["steps"]) ? data["steps"].filter(isRecord) : [];
  if (steps.length === 0) return "";
  const rows = steps.map(({ name, ok, ms, cause, detail }) => {
    const { word, sign, tone } = MARKS[ok === false ? "failed" : "ok"];
    return html`<tr>
      <td>${String(name)}</td>
      <td data-label="Result">
        <span class="state ${tone}"><span aria-hidden="true">${sign}</span> ${word}</span>
      </td>
      <td data-label="Time">${String(ms)} ms</td>
      <td data-label="Found">${foreign(String(cause ?? detail ?? ""))}</td>
    </tr>`;
  });
  return html`<table>
    <thead>
      <tr>
        <th scope="col">Step</th>
        <th scope="col">Result</th>
        <th scope="col">Time</th>
        <th scope="col">Found</th>
      </tr>
    </thead>
    <tbody>
      ${rows}
    </tbody>
  </table>`;
}
