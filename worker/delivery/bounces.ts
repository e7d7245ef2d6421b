/** Received messages about sent ones: bounces and complaints change what is known of a sending, automatic replies are remembered. */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import { asProblem } from "../../shared/contract/problem.ts";
import type { Bounce, ParsedMessage } from "../../shared/contract/received.ts";
import { type Recipient, type Sending, wholeState } from "../../shared/contract/sending.ts";
import type { TaskSender } from "../../shared/queue/queue.ts";
import type { Outbox } from "../../shared/store/store.ts";
import type { Emit } from "../../shared/telemetry/events.ts";

export type ReturnedDeps = { outbox: Outbox; tasks: TaskSender; emit: Emit };

type Report = Bounce["recipients"][number];

/** References looked up; the message answered is the last one. */
const REFERENCES = 3;
const TRIES = 3;

/**
 * Links a message to the sending it is about, by the Message-ID in the returned part, else by In-Reply-To and References; doing it
 * again changes nothing. Only what the mail server had taken can bounce.
 */
export async function linkReturned(deps: ReturnedDeps, mailbox: Mailbox, parsed: ParsedMessage): Promise<void> {
  const { bounce, automatic, from } = parsed;
  const robot = automatic === "auto-replied" || automatic === "auto-generated";
  if (!bounce && !robot) return;
  if (robot && from) await deps.outbox.noteAutomatic(mailbox.id, from.address, "heard");
  const sending = await sendingOf(deps.outbox, mailbox.id, parsed);
  if (!sending) return;
  if (!bounce) {
    if (automatic === "auto-replied")
      deps.emit({ kind: "send.answered", mailbox: mailbox.id, sending: sending.id, from: from?.address ?? "" });
    return;
  }
  const failed = bounce.recipients.filter(({ action }) => action?.startsWith("failed") || action === "complaint");
  if (failed.length > 0) await bounced(deps, mailbox, sending, failed);
}

async function sendingOf(outbox: Outbox, mailbox: string, parsed: ParsedMessage): Promise<Sending | undefined> {
  const ids = [
    parsed.bounce?.originalMessageId,
    parsed.inReplyTo,
    ...parsed.references.slice(-REFERENCES).toReversed(),
  ];
  for (const id of new Set(ids)) {
    const sending = id ? await outbox.find(mailbox, id) : undefined;
    if (sending) return sending;
  }
  return undefined;
}

async function bounced(deps: ReturnedDeps, mailbox: Mailbox, sending: Sending, failed: Report[]): Promise<void> {
  const { changed, recipients } = marked(sending, failed);
  if (changed.length === 0) return;
  const state = wholeState(recipients);
  const now = new Date().toISOString();
  const reason = state === "bounced" ? (changed[0]?.response ?? sending.reason) : sending.reason;
  await saved(deps.outbox, { ...sending, recipients, state, reason, updatedAt: now }, failed);
  for (const { address, response } of changed) {
    const about = { mailbox: mailbox.id, sending: sending.id };
    deps.emit({ kind: "send.bounced", ...about, recipient: address, reason: response ?? "" });
    if (!sending.notify || mailbox.deliver.dialect !== "webhook") continue;
    const event = { event: "bounced" as const, recipient: address, at: now };
    await deps.tasks.send({ version: 1, kind: "notify", ...about, ...event });
  }
}

/** An attempt for other recipients may be written at the same time: then the bounce is applied to what that left. */
async function saved(outbox: Outbox, sending: Sending, failed: Report[]): Promise<void> {
  let next = sending;
  for (let tries = 1; ; tries++) {
    try {
      await outbox.save(next);
      return;
    } catch (error) {
      const now = await outbox.get(sending.id);
      if (asProblem(error).code !== "conflict" || !now || tries === TRIES) throw error;
      const { recipients } = marked(now, failed);
      next = { ...now, recipients, state: wholeState(recipients), updatedAt: sending.updatedAt };
    }
  }
}

function marked(sending: Sending, failed: Report[]): { changed: Recipient[]; recipients: Recipient[] } {
  const changed: Recipient[] = [];
  const recipients = sending.recipients.map((one): Recipient => {
    const report = reportOn(one.address, sending, failed);
    if (!report || (one.state !== "sent" && one.state !== "unknown")) return one;
    const response = report.diagnostic ?? report.status ?? "returned without a reason";
    const now: Recipient = { ...one, state: "bounced", response };
    changed.push(now);
    return now;
  });
  return { changed, recipients };
}

/** A report about an address nobody here wrote to is about an alias: clear where there was one recipient only. */
function reportOn(address: string, { recipients }: Sending, failed: Report[]): Report | undefined {
  const named = failed.find(({ recipient }) => recipient?.toLowerCase() === address.toLowerCase());
  return named ?? (recipients.length === 1 ? failed[0] : undefined);
}
