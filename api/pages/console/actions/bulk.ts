/** Bulk actions: the question before one begins, how far it is, and those of late. */
import { html } from "hono/html";
import type { BulkView } from "../../../bulk/routes.ts";
import type { Html } from "../../html.ts";
import { button, type Cell, queryOf, table } from "../parts.ts";
import { toneMark, type Tone } from "../states.ts";
import { countOf, foreign, relativeTime } from "../words.ts";

type Action = BulkView["action"];
type Words = { verb: string; about: string; one: string; many: string; list: string };

const MAILBOXES = { one: "mailbox", many: "mailboxes", list: "mailboxes" };
/** What each action is called, what it means, and what it is about. */
const WORDS: Record<Action, Words> = {
  pause: {
    ...MAILBOXES,
    verb: "Pause",
    about: "Their subscriptions end. Mail that arrives meanwhile is delivered after the resume.",
  },
  resume: {
    ...MAILBOXES,
    verb: "Resume",
    about: "Paused ones go on from where they stopped. Those that need attention try their login again.",
  },
  test: {
    ...MAILBOXES,
    verb: "Test",
    about: "Each is tried step by step: its server, its login, its folders, its endpoint. Nothing is changed.",
  },
  resync: {
    ...MAILBOXES,
    verb: "Read again",
    about: "Mail since that day is handed over again. What was delivered before is not delivered twice.",
  },
  replay: {
    verb: "Replay",
    about: "Each is attempted at once, under the same delivery id, and gets all its attempts again.",
    one: "message",
    many: "messages",
    list: "deliveries",
  },
};

export type BulkQuestion = {
  base: string;
  action: Action;
  filter: Record<string, string>;
  /** How many match. */
  total: number;
  today: string;
};

export function bulkQuestionBody({ base, action, filter, total, today }: BulkQuestion): Html {
  const { verb, about, one, many, list } = WORDS[action];
  const back = `${base}/${list}${queryOf(filter)}`;
  const of = filterWords(filter);
  if (total === 0) return html`<p>No ${one} ${of} can be changed so. <a href="${back}">Back to the list</a></p>`;
  const what = countOf(total, one, many);
  const since = html`<label>Since <input type="date" name="since" value="${today}" required /></label>`;
  return html`<p class="verdict">${verb} ${what} ${of}?</p>
    <p>${about}</p>
    <p>It runs in the background, also when you leave the page. You can stop it.</p>
    <div class="buttons">
      ${button({
        path: `${base}/bulk`,
        label: `${verb} ${what}`,
        may: true,
        look: "main",
        fields: { action, ...filter },
        ...(action === "resync" && { inputs: since }),
      })}
      <a class="button" href="${back}">Back to the list</a>
    </div>`;
}

function filterWords(filter: Record<string, string>): Cell {
  const chosen = Object.entries(filter).filter(([, value]) => value !== "");
  if (chosen.length === 0) return "of all";
  return html`with ${foreign(chosen.map((pair) => pair.join(" ")).join(", "))}`;
}

const STATES: Record<BulkView["state"], [Tone, string]> = {
  running: ["warn", "running"],
  done: ["good", "done"],
  stopped: ["off", "stopped"],
  failed: ["bad", "failed"],
};

function stateMark({ state, failed }: BulkView): Html {
  const [tone, word] = STATES[state];
  return toneMark(state === "done" && failed > 0 ? "warn" : tone, word);
}

/** How far a bulk action is, and whether it ended in the middle. */
function sentenceOf({ state, done, total, failed, cause }: BulkView): string {
  const isEarly = state === "stopped" || state === "failed";
  const far =
    total === null
      ? "They are being counted."
      : `${done.toLocaleString("en")} of ${total.toLocaleString("en")} done, ${failed.toLocaleString("en")} failed.`;
  return [isEarly && "It ended in the middle.", far, cause].filter(Boolean).join(" ");
}

export function bulkBody(base: string, job: BulkView, may: boolean): Html {
  const { id, action, filter, since, total, done, problems, node, startedBy, createdAt, endedAt, state } = job;
  const { verb, list } = WORDS[action];
  const rows = problems.map((one) => [
    html`<a href="${base}/${list}/${encodeURIComponent(one.id)}">${one.id}</a>`,
    foreign(one.cause),
  ]);
  return html`<div id="bulk" data-live>
      <p class="verdict">${stateMark(job)} ${verb} ${list} ${filterWords(filter)}</p>
      <p><progress max="${total ?? 1}" value="${done}" aria-label="Progress"></progress></p>
      <p role="status">${sentenceOf(job)}</p>
      <dl>
        ${since === undefined ? "" : definition("Mail since", since)} ${definition("Begun", relativeTime(createdAt))}
        ${definition("By", startedBy)} ${definition("Node", node ?? "none yet")}
        ${definition("Ended", endedAt === null ? "not yet" : relativeTime(endedAt))}
      </dl>
      ${rows.length === 0 ? "" : table(["Which", "Why"], rows, "The first that failed")}
      ${button({
        path: `${base}/bulk/${encodeURIComponent(id)}/stop`,
        label: "Stop",
        may,
        because: state === "running" ? undefined : "it has ended",
      })}
    </div>
    <p><a href="${base}/${list}">Back to the ${list}</a> · <a href="${base}/bulk">All bulk actions</a></p>`;
}

function definition(name: string, value: Cell): Html {
  return html`<dt>${name}</dt>
    <dd>${value}</dd>`;
}

export function bulkListBody(base: string, jobs: BulkView[]): Html {
  const rows = jobs.map((job) => [
    html`<a href="${base}/bulk/${encodeURIComponent(job.id)}">${WORDS[job.action].verb}</a>`,
    html`${WORDS[job.action].list} ${filterWords(job.filter)}`,
    stateMark(job),
    sentenceOf(job),
    job.startedBy,
    relativeTime(job.createdAt),
  ]);
  return html`<div id="jobs" data-live>
    ${
      rows.length === 0
        ? html`<p>None yet. The lists of mailboxes and deliveries have buttons for all that match their filter.</p>`
        : table(["Action", "With", "State", "How far", "By", "Begun"], rows, "The last 20, the newest first")
    }
  </div>`;
}
