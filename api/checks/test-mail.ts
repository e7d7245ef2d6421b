/** Sends a mail from a mailbox to its own address and waits until the endpoint has it, timed step by step. */
import { randomBytes } from "node:crypto";
import * as v from "valibot";
import type { Delivery } from "../../shared/contract/delivery.ts";
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import { OutgoingMessage } from "../../shared/contract/outgoing.ts";
import { asProblem } from "../../shared/contract/problem.ts";
import type { Sending } from "../../shared/contract/sending.ts";
import { deliveryId, fingerprint } from "../../shared/mail/fingerprint.ts";
import { clock, sleep } from "../../shared/time.ts";
import { acceptMessage } from "../outgoing.ts";
import { type Check, type CheckCall, type Finding, notRun } from "./check.ts";

/** `ms` is the time since the step before. */
type Step = { name: "accepted" | "sent" | "seen" | "delivered"; ms: number };
type Journey = {
  call: CheckCall;
  mailbox: Mailbox;
  mark: string;
  startedAt: string;
  steps: Step[];
  signal: AbortSignal;
};

const POLL_MS = 500;
/** Less than the check may take, so that it can say at which step the mail is. */
const ARRIVE_MS = 120_000;
/** Deliveries that are looked into, if the mail server changed the mail on its way. */
const [MAX_LOOKS, MAX_LOOK_BYTES] = [20, 200_000];

export const testMailCheck: Check = {
  title: "A mail to the mailbox itself",
  seconds: 150,
  async run(call, signal) {
    const mailbox = call.mailbox?.mailbox;
    if (!mailbox) return notRun("It needs `mailbox`, the id of a registered mailbox, and sends a mail there");
    if (!mailbox.send)
      return notRun("The mailbox does not send", "Add `send` to the mailbox, or send it a mail by hand.");
    if (mailbox.paused) return notRun("The mailbox is paused", "Resume it first.");
    const mark = `elt-${randomBytes(9).toString("hex")}`;
    const journey: Journey = { call, mailbox, mark, startedAt: isoNow(), steps: [], signal };
    const data = { mailbox: mailbox.id, subject: subjectOf(mark), steps: journey.steps };
    return { ...(await follow(journey, mailbox.send)), data };
  },
};

function subjectOf(mark: string): string {
  return `Test of Email Listener ${mark}`;
}

function isoNow(): string {
  return new Date(clock.now()).toISOString();
}

async function follow(journey: Journey, send: NonNullable<Mailbox["send"]>): Promise<Finding> {
  const { call, mailbox, mark } = journey;
  const message = v.parse(OutgoingMessage, {
    to: [mailbox.address],
    subject: subjectOf(mark),
    text: "Somebody tests this mailbox in Email Listener. The service waits for this mail. You may delete it.",
  });
  const { deps, actor } = call;
  // Only this mail may go to the mailbox itself, whatever the mailbox says about others.
  const allowed = { ...mailbox, send: { ...send, allowSelf: true } };
  const accepted = await timed(journey, "accepted", () => acceptMessage(deps, allowed, message, { key: null, actor }));
  const raw = await deps.store.outbox.getRaw(accepted.id);
  const sending = await timed(journey, "sent", () => untilSent(journey, accepted));
  if (sending.state !== "sent") return unsent(sending);
  const expected = raw && deliveryId(mailbox.id, fingerprint(raw));
  const seen = await timed(journey, "seen", () => untilSeen(journey, expected));
  if (!seen) return lost(journey);
  const end = await timed(journey, "delivered", () => untilDelivered(journey, seen));
  if (end.state === "delivered") {
    const ms = journey.steps.reduce((sum, step) => sum + step.ms, 0);
    return { status: "ok", detail: `sent, seen in ${end.ref.folder} and delivered within ${(ms / 1000).toFixed(1)} s` };
  }
  const cause = `The mail was seen, but the endpoint has not accepted it: ${end.reason ?? end.state}`;
  return { status: "failed", cause, fix: `Look at the attempts: GET /api/v1/deliveries/${end.id}.` };
}

/** Does one step. It is recorded only if it did not throw. */
async function timed<T>({ steps }: Journey, name: Step["name"], work: () => Promise<T>): Promise<T> {
  const startedAt = performance.now();
  const result = await work();
  if (result !== undefined) steps.push({ name, ms: Math.round(performance.now() - startedAt) });
  return result;
}

/** The sending with its last state; still queued if there was no time for more. */
async function untilSent({ call, signal }: Journey, accepted: Sending): Promise<Sending> {
  const until = performance.now() + ARRIVE_MS / 2;
  let sending = accepted;
  while (sending.state === "queued" && performance.now() < until && (await sleep(POLL_MS, signal)))
    sending = (await call.deps.store.outbox.get(accepted.id)) ?? sending;
  signal.throwIfAborted();
  return sending;
}

function unsent({ state, reason, recipients, id }: Sending): Finding {
  const words = reason ?? recipients.find(({ response }) => response !== null)?.response ?? `its state is ${state}`;
  return {
    status: "failed",
    cause: state === "queued" ? `The mail is not sent yet: ${words}` : `The mail was not sent: ${words}`,
    fix: `GET /api/v1/messages/${id} shows its state. Check \`send\` of the mailbox.`,
  };
}

async function untilSeen(journey: Journey, expected: string | undefined): Promise<Delivery | undefined> {
  const { deliveries } = journey.call.deps.store;
  const looked = new Set<string>();
  const until = performance.now() + ARRIVE_MS;
  do {
    const found = (expected && (await deliveries.get(expected))) || (await findChanged(journey, looked));
    if (found) return found;
  } while (performance.now() < until && (await sleep(POLL_MS, journey.signal)));
  journey.signal.throwIfAborted();
  return undefined;
}

/** Looks into new deliveries of the mailbox for the mark, because some servers change a mail on its way. */
async function findChanged(
  { call: { deps }, mailbox, mark, startedAt, signal }: Journey,
  looked: Set<string>,
): Promise<Delivery | undefined> {
  const query = { mailbox: mailbox.id, since: startedAt, limit: MAX_LOOKS };
  const { items } = await deps.store.deliveries.list(query);
  for (const item of items.filter(({ id, ref }) => !looked.has(id) && ref.size < MAX_LOOK_BYTES)) {
    if (looked.size >= MAX_LOOKS) return undefined;
    looked.add(item.id);
    const raw = await deps.mail.fetchRaw(item.ref, mailbox, signal).catch(undefinedIfGone);
    if (raw && Buffer.from(raw).includes(mark)) return item;
  }
  return undefined;
}

/** A mail that was deleted after its delivery cannot be looked into. */
function undefinedIfGone(error: unknown): undefined {
  if (asProblem(error).code !== "gone") throw error;
}

/** Why the mail was not seen, as far as the mailbox's history knows. */
async function lost({ call: { deps }, mailbox, startedAt }: Journey): Promise<Finding> {
  const facts = (await deps.store.facts.recent(mailbox.id, 50)).filter(({ at }) => at >= startedAt);
  const filtered = facts.find((fact) => fact.kind === "mail.filtered" || fact.kind === "mail.skipped");
  const why = filtered ? `; a mail was left out meanwhile (${filtered.kind})` : "";
  return {
    status: "failed",
    cause: `The mail was sent, but did not arrive within ${ARRIVE_MS / 1000} seconds${why}`,
    fix: "Look for it in the mailbox: it may lie in a folder for spam, or in one that is not in `receive.folders`.",
  };
}

async function untilDelivered({ call, signal }: Journey, seen: Delivery): Promise<Delivery> {
  const until = performance.now() + ARRIVE_MS / 4;
  let delivery = seen;
  while (delivery.state === "retrying" && performance.now() < until && (await sleep(POLL_MS, signal)))
    delivery = (await call.deps.store.deliveries.get(seen.id)) ?? delivery;
  signal.throwIfAborted();
  return delivery;
}
