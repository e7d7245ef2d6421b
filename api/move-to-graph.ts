/**
 * Moves mailboxes in Exchange Online from Exchange Web Services to Microsoft Graph, and back while Graph has handed over
 * nothing. Only the settings change. The subscription itself reads the cursors of the other protocol, under its lease.
 */
import * as v from "valibot";
import { ApplicationId } from "../shared/contract/fields.ts";
import { type Mailbox, MailboxInput } from "../shared/contract/mailbox.ts";
import type { Cursor } from "../shared/contract/message.ts";
import { asProblem, Problem } from "../shared/contract/problem.ts";
import { narrowMailbox } from "../shared/mail/defaults.ts";
import { toGraphMailbox } from "../shared/mail/exchange/at-graph.ts";
import { parseState as parseEwsState } from "../shared/mail/exchange/ews-cursor.ts";
import { type FolderPlan, planMove } from "../shared/mail/graph/move.ts";
import { parseState } from "../shared/mail/graph/sync/cursor.ts";
import type { MailboxWithState } from "../shared/store/store.ts";
import { checkApplicationExists, invalidField, putMailbox } from "./applications.ts";
import type { ApiDeps } from "./deps.ts";
import { notFound } from "./http/problems.ts";
import { parseInput } from "./http/route.ts";
import { restartedState, withCredentialsLock } from "./mailbox-changes.ts";
import { mailboxFromInput, toWireForm } from "./mailboxes.ts";
import type { ScopedDeps } from "./scoped-deps.ts";

export const MoveBody = v.strictObject({
  application: v.optional(
    v.pipe(ApplicationId, v.description("The application of Microsoft by which the mailbox is received from then on.")),
  ),
  dryRun: v.optional(v.pipe(v.boolean(), v.description("Only says what would happen.")), false),
  back: v.optional(
    v.pipe(v.boolean(), v.description("Back to Exchange Web Services, while Graph has handed over nothing.")),
    false,
  ),
});
export type MoveBody = v.InferOutput<typeof MoveBody>;

export const MoveReport = v.object({
  ok: v.boolean(),
  moved: v.boolean(),
  steps: v.array(
    v.object({
      name: v.string(),
      ok: v.boolean(),
      ms: v.number(),
      cause: v.optional(v.string()),
      fix: v.optional(v.string()),
      detail: v.optional(v.string()),
    }),
  ),
});
export type MoveReport = v.InferOutput<typeof MoveReport>;
type Step = MoveReport["steps"][number];

type MoveDeps = Pick<ApiDeps, "store" | "facts" | "subscriptions" | "mail" | "outbound"> &
  Pick<ScopedDeps, "mailboxPrefix">;
type Signals = (ms: number) => AbortSignal;

const PLAN_MS = 300_000;

/** Tries the move, and makes it if every step passed and it is no dry run. Throws `conflict` if it makes no sense. */
export async function moveToGraph(
  deps: MoveDeps,
  id: string,
  { application, dryRun, back }: MoveBody,
  signals: Signals,
): Promise<MoveReport> {
  const before = await read(deps, id);
  if (back) return goBack(deps, before, dryRun, signals);
  if (application === undefined) throw invalidField("application", "is missing");
  const target = await plan(deps, before.mailbox, application);
  const isCrms = before.mailbox.deliver.dialect === "creatio";
  const steps = isCrms ? [CRM_STEP] : await listSteps(deps, before.mailbox, target, signals(PLAN_MS));
  const ok = steps.every((step) => step.ok);
  if (ok && !dryRun) await change(deps, before, { ...target, former: { receive: before.mailbox.receive } }, signals);
  return { ok, moved: ok && !dryRun, steps };
}

async function read({ store }: Pick<MoveDeps, "store">, id: string): Promise<MailboxWithState> {
  const found = await store.mailboxes.get(id);
  if (!found) throw notFound("mailbox", id);
  return found;
}

/** The mailbox as Graph would receive it. */
async function plan(deps: MoveDeps, mailbox: Mailbox, application: string): Promise<Mailbox> {
  const { receive } = mailbox;
  if (receive.protocol !== "ews")
    throw conflict(
      `The mailbox ${mailbox.id} is received by ${receive.protocol}, so it cannot move from ews to graph.`,
    );
  if (mailbox.send?.auth && mailbox.send.protocol !== "smtp")
    throw conflict(
      `The mailbox ${mailbox.id} sends with a login of its own, and Graph has one for both. Remove send.auth.`,
    );
  const input = parseInput(MailboxInput, toWireForm(toGraphMailbox(narrowMailbox(mailbox, "ews"), application)));
  const target = mailboxFromInput(input, mailbox).mailbox;
  await checkApplicationExists(deps, target);
  return target;
}

async function listSteps(deps: MoveDeps, mailbox: Mailbox, target: Mailbox, signal: AbortSignal): Promise<Step[]> {
  const { steps } = await deps.mail.preflight(target, signal);
  // The endpoint stays the same.
  const tried: Step[] = steps.filter(({ name }) => name !== "deliver");
  if (tried.some(({ ok }) => !ok)) return tried;
  const cursors = await deps.store.cursors.read(mailbox.id);
  const unread = cursors.find(({ state }) => (parseEwsState(state)?.from ?? null) !== null);
  if (unread) return [...tried, UNREAD_STEP];
  const startedAt = performance.now();
  const ms = () => Math.round(performance.now() - startedAt);
  try {
    const plans = await planMove(deps.outbound, narrowMailbox(target, "graph"), cursors, signal);
    return [
      ...tried,
      ...plans.map((one) => ({ name: `folder ${one.name}`, ok: true, ms: ms(), detail: describe(one) })),
    ];
  } catch (error) {
    signal.throwIfAborted();
    const { message: cause, fix } = asProblem(error);
    return [...tried, { name: "cursors", ok: false, ms: ms(), cause, fix }];
  }
}

const CRM_STEP: Step = {
  name: "crm",
  ok: false,
  ms: 0,
  cause: "A CRM registered this mailbox for Exchange, and would change it back",
  fix: "Name its domain in `domains` of the application: then the mailbox is served by Graph, whatever the CRM says.",
};

const UNREAD_STEP: Step = {
  name: "cursors",
  ok: false,
  ms: 0,
  cause: "A folder is still being read for the first time by Exchange Web Services",
  fix: "Wait until the mailbox listens, then move it.",
};

function describe({ messages, since, handedOver, fresh }: FolderPlan): string {
  if (since === null) return `${messages} messages; nobody watched it before, so it begins with new ones`;
  return `${messages} messages; of those received since ${since}, ${handedOver} were handed over and ${fresh} are new`;
}

/** Exchange Web Services go on where they were. What Graph handed over they could not recognise. */
async function goBack(
  deps: MoveDeps,
  before: MailboxWithState,
  dryRun: boolean,
  signals: Signals,
): Promise<MoveReport> {
  const { former, ...mailbox } = before.mailbox;
  if (!former) throw conflict(`The mailbox ${mailbox.id} has not moved to Graph, or was changed since.`);
  const cursors = await deps.store.cursors.read(mailbox.id);
  if (cursors.some(hasHandedOver))
    throw conflict(`Graph has handed over messages of the mailbox ${mailbox.id}, so there is no way back.`);
  if (!dryRun) {
    const { send: sends } = mailbox;
    const send = sends?.protocol === "graph" && { send: { ...sends, protocol: "ews" as const } };
    await change(deps, before, { ...mailbox, ...send, receive: former.receive }, signals);
  }
  const detail = "Graph has handed over nothing";
  return { ok: true, moved: !dryRun, steps: [{ name: "cursors", ok: true, ms: 0, detail }] };
}

function hasHandedOver({ uid, state }: Cursor): boolean {
  const own = parseState(state);
  return own !== undefined && uid > (own.movedAt ?? 0);
}

/** Stores the mailbox, unless somebody changed it meanwhile. The cursors stay. */
async function change(deps: MoveDeps, before: MailboxWithState, after: Mailbox, signals: Signals): Promise<void> {
  const { id, revision } = before.mailbox;
  const work = async () => {
    const now = await read(deps, id);
    if (now.mailbox.revision !== revision) throw conflict(`The mailbox ${id} was changed meanwhile. Try again.`);
    const mailbox = { ...after, updatedAt: new Date().toISOString() };
    const state = { ...now.state, ...restartedState(mailbox) };
    const stored = await putMailbox(deps, mailbox, { previous: now.mailbox, state });
    deps.facts.emit({ kind: "mailbox.changed", mailbox: id, revision: stored.revision });
  };
  await withCredentialsLock(deps, id, work, signals);
  deps.subscriptions.wake(id);
}

function conflict(why: string): Problem {
  return new Problem("conflict", why, { retry: "never" });
}
