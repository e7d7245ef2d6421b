/** The first view: one sentence, the work list, five numbers, nodes, and endpoints that are not well. */
import { html } from "hono/html";
import type { NodeDescription } from "../../../shared/nodes/heartbeats.ts";
import { type Html, inlineMarkdown } from "../html.ts";
import { sparkline } from "./measured/bar.ts";
import { button, doneNote, queryOf, table } from "./parts.ts";
import { toneMark, type ShownState, type Tone } from "./states.ts";
import { breakable, countOf, foreign, latencyText, relativeTime } from "./words.ts";

/** A row of the work list. `tone` bad: a person is needed; warn: the service goes on by itself. `path` leads to what has it. */
export type Cause = {
  tone: Tone;
  what: string;
  where: string;
  since: string | null;
  cause: string;
  fix: string;
  path: string;
  link: string;
  /** A button that mends it. */
  action?: { path: string; label: string; fields: Record<string, string> };
};

/** Retrying deliveries of one endpoint, with the reason of the newest. */
export type SickEndpoint = {
  host: string;
  waiting: number;
  oldest: string;
  reason: string;
  nextAttemptAt: string | null;
};

/** One number for each period of the last hours, the oldest first; null where nothing was counted. */
export type Points = readonly (number | null)[];
type NumberName = "listening" | "deliveredPerMinute" | "latencyP95" | "waiting" | "parked";
/** The latency is in milliseconds. */
export type NumberHistory = Record<NumberName, Points> & {
  latencyP95LastHour: number | null;
  deliveredPerMinuteNow: number;
};

/** How everything is. `isWhole` is false if there are more mailboxes or deliveries than were looked at. */
export type Survey = {
  total: number;
  isWhole: boolean;
  byState: Partial<Record<ShownState, number>>;
  causes: Cause[];
  deliveredPerMinute: number;
  /** Milliseconds from being seen to being accepted; null without deliveries in the last hour. */
  latencyP95: number | null;
  /** Undefined for those who see only some mailboxes. */
  history: NumberHistory | undefined;
  waiting: { count: number; oldest: string | null };
  parked: { deliveries: number; tasks: number | undefined };
  endpoints: SickEndpoint[];
  /** Undefined for those who may not see the nodes. */
  nodes: NodeDescription[] | undefined;
};
type Place = { base: string; origin: string; query: URLSearchParams; mayManage: boolean };

export function nowBody(view: Survey, place: Place): Html {
  if (view.total === 0 && view.causes.length === 0)
    return html`<div id="now" data-live>${firstSteps(place)} ${nodesTable(view.nodes)}</div>`;
  return html`${doneNote(place.query)}
    <div id="now" data-live>
      <p class="verdict">${verdictOf(view)}</p>
      ${workList(view.causes, place)} ${numbers(view)} ${endpointsTable(view.endpoints, place.base)}
      ${nodesTable(view.nodes)}
    </div>`;
}

/** The mailboxes that the service listens to, as far as their servers have confirmed it. */
function listeningCount({ byState }: Survey): number {
  return (byState.listening ?? 0) + (byState.polling ?? 0) + (byState.syncing ?? 0);
}

function verdictOf(view: Survey): Html {
  const { total, byState, causes, isWhole } = view;
  const listening = listeningCount(view);
  const paused = byState.paused ?? 0;
  const isAll = isWhole && listening + paused === total;
  const needed = causes.filter(({ tone }) => tone === "bad" || tone === "off").length;
  const tone = needed > 0 ? "bad" : isAll ? "good" : "warn";
  const who =
    isAll && paused === 0
      ? total === 1
        ? "The mailbox is listened to"
        : `All ${total.toLocaleString("en")} mailboxes are listened to`
      : `${listening.toLocaleString("en")} of ${countOf(total, "mailbox is", "mailboxes are")} listened to`;
  const aside = paused > 0 ? ` (${paused.toLocaleString("en")} paused)` : "";
  const what = needed > 0 ? `${countOf(needed, "cause needs", "causes need")} you` : "nothing needs you";
  const more = isWhole ? "" : " There are more mailboxes or parked messages than this page looks at.";
  return html`${toneMark(tone, `${who}${aside}; ${what}.`)}${more}`;
}

function workList(causes: Cause[], { base, mayManage: may }: Place): Html | string {
  if (causes.length === 0) return "";
  const rows = causes.map(({ tone, what, where, since, cause, fix, path, link, action }) => [
    toneMark(tone, what),
    breakable(where),
    since === null ? "" : relativeTime(since),
    html`${foreign(cause)}
      <div class="fix">${inlineMarkdown(fix)}</div>`,
    html`<a href="${base}${path}">${link}</a> ${action ? button({ ...action, path: base + action.path, may }) : ""}`,
  ]);
  return html`<h2 id="work">What needs attention</h2>
    ${table(["What", "Where", "Since", "Cause and fix", "Go to"], rows)}`;
}

function numbers(view: Survey): Html {
  const { total, deliveredPerMinute, latencyP95, waiting, parked, history } = view;
  const tasks = parked.tasks ? `, ${countOf(parked.tasks, "task")}` : "";
  const line = (name: NumberName, what: string, shown = wholeOf) =>
    history ? sparkline(history[name], wordsOfPoints(history[name], what, shown)) : "";
  const oldest = waiting.oldest === null ? "" : html`, the oldest from ${relativeTime(waiting.oldest)}`;
  return html`<ul class="numbers" aria-label="Numbers">
      ${number(wholeOf(listeningCount(view)), `listened to, of ${wholeOf(total)}`, line("listening", "Listened to"))}
      ${number(
        rateOf(deliveredPerMinute),
        "delivered per minute (last 10 min)",
        line("deliveredPerMinute", "Delivered per minute", rateOf),
      )}
      ${number(
        latencyP95 === null ? "none" : latencyText(latencyP95),
        latencyP95 === null ? "delivered in the last hour" : "from seen to accepted (95 of 100, last hour)",
        line("latencyP95", "From seen to accepted, 95 of 100", latencyText),
      )}
      ${number(
        wholeOf(waiting.count),
        html`waiting for another attempt${oldest}`,
        line("waiting", "Waiting for another attempt"),
      )}
      ${number(wholeOf(parked.deliveries), `parked${tasks}`, line("parked", "Parked"))}
    </ul>
    ${history ? html`<p class="soft">Lines: last 6 h, 5 min per point, each from 0 to its highest point.</p>` : ""}`;
}

function number(value: string, about: Html | string, picture: Html | string): Html {
  return html`<li><b>${value}</b><span>${about}</span>${picture}</li>`;
}

const wholeOf = (n: number) => n.toLocaleString("en");
const rateOf = (n: number) => n.toLocaleString("en", { maximumFractionDigits: 1 });

/** "Parked, last 6 h: between 0 and 12, 4 at the end". */
function wordsOfPoints(points: Points, what: string, shown: (value: number) => string): string {
  const known = points.filter((point) => point !== null);
  const last = known.at(-1);
  if (last === undefined) return `${what}, last 6 h: nothing counted yet`;
  const [least, most] = [Math.min(...known), Math.max(...known)];
  return `${what}, last 6 h: between ${shown(least)} and ${shown(most)}, ${shown(last)} at the end`;
}

function endpointsTable(endpoints: SickEndpoint[], base: string): Html | string {
  if (endpoints.length === 0) return "";
  const rows = endpoints.map(({ host, waiting, oldest, reason, nextAttemptAt }) => [
    html`<a href="${base}/deliveries${queryOf({ state: "retrying", host })}">${host}</a>`,
    String(waiting),
    relativeTime(oldest),
    relativeTime(nextAttemptAt),
    foreign(reason),
  ]);
  return html`<h2>Endpoints that are not well</h2>
    ${table(["Endpoint", "Waiting #", "Oldest", "Next attempt", "Newest reason"], rows)}`;
}

function nodesTable(nodes: NodeDescription[] | undefined): Html {
  if (!nodes) return html`<p class="soft">Only a token with the scope admin sees the nodes.</p>`;
  const rows = nodes.map(({ name, role, mailboxes, capacity, version, startedAt }) => [
    toneMark("good", name),
    role === "api" ? "API node" : "worker",
    role === "api" ? `${mailboxes.toLocaleString("en")} of ${capacity.toLocaleString("en")}` : "none",
    version,
    relativeTime(startedAt),
  ]);
  return html`<h2>Nodes</h2>
    ${table(["Node", "Kind", "Mailboxes #", "Version", "Started"], rows)}`;
}

function firstSteps({ base, origin }: Place): Html {
  return html`<p class="verdict">${toneMark("off", "No mailbox yet.")}</p>
    <p>Register a mailbox. From then on each new message is posted to your endpoint.</p>
    <p><a class="button" href="${base}/mailboxes/add">Add a mailbox</a></p>
    <p>The same by the <a href="${base}/docs">API</a>:</p>
    <pre tabindex="0"><code>curl -X POST ${origin}${base}/api/v1/mailboxes \\
  -H 'authorization: Bearer &lt;token&gt;' -H 'content-type: application/json' \\
  -d '{ "address": "help@example.com",
        "receive": { "protocol": "imap", "host": "imap.example.com",
                     "auth": { "user": "help@example.com", "password": "..." } },
        "deliver": { "url": "https://crm.example.com/mail" } }'</code></pre>
    <p class="soft">
      Without a mailbox at hand, <code>bun run demo</code> starts the service with a mail server, mail and an endpoint.
    </p>`;
}
