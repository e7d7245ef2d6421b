/**
 * Received messages about sent ones. Bounces, complaints and read receipts change the sending; automatic replies are
 * recorded.
 */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import { asProblem } from "../../shared/contract/problem.ts";
import type { Bounce, ParsedMessage, Receipt } from "../../shared/contract/received.ts";
import { type Recipient, type Sending, overallState } from "../../shared/contract/sending.ts";
import { sameAddress } from "../../shared/mail/smtp/addresses.ts";
import type { TaskSender } from "../../shared/queue/queue.ts";
import type { Outbox } from "../../shared/store/store.ts";
import type { Emit } from "../../shared/telemetry/events.ts";

export type LinkToSendingDeps = { outbox: Outbox; tasks: TaskSender; emit: Emit };

type RecipientReport = Bounce["recipients"][number];

/** How many references are looked up. The last one is the answered message. */
const MAX_REFERENCES = 3;
const MAX_SAVE_ATTEMPTS = 3;

/**
 * Links a message to its sending: by the Message-ID in the returned part or the receipt, else by In-Reply-To and
 * References. Doing it again changes nothing. Only a message that the mail server had accepted can bounce. Reports of a
 * delay, a delivery or a relay change nothing.
 */
export async function linkToSending(deps: LinkToSendingDeps, mailbox: Mailbox, parsed: ParsedMessage): Promise<void> {
  const { bounce, delay, receipt, automatic, from } = parsed;
  const isAutomatic = automatic === "auto-replied" || automatic === "auto-generated";
  if (!bounce && !receipt && !isAutomatic) return;
  if (isAutomatic && from) await deps.outbox.recordAutomatic(mailbox.id, from.address, "heard");
  const sending = await findSending(deps.outbox, mailbox.id, parsed);
  if (!sending) return;
  if (bounce) return recordBounce(deps, mailbox, sending, bounce.recipients);
  if (receipt) return recordReceipt(deps, sending, { ...receipt, from: from?.address ?? null });
  if (automatic === "auto-replied" && !delay)
    deps.emit({ kind: "send.auto_replied", mailbox: mailbox.id, sending: sending.id, from: from?.address ?? "" });
}

async function findSending(outbox: Outbox, mailbox: string, parsed: ParsedMessage): Promise<Sending | undefined> {
  const ids = [
    parsed.bounce?.originalMessageId,
    parsed.receipt?.originalMessageId,
    parsed.inReplyTo,
    ...parsed.references.slice(-MAX_REFERENCES).toReversed(),
  ];
  for (const id of new Set(ids)) {
    const sending = id ? await outbox.findByMessageId(mailbox, id) : undefined;
    if (sending) return sending;
  }
  return undefined;
}

type ReceiptFrom = Pick<Receipt, "disposition" | "recipient"> & { from: string | null };

/**
 * Records the first receipt of a recipient. A receipt from an unknown address belongs to the recipient if there was
 * only one.
 */
async function recordReceipt(deps: LinkToSendingDeps, sending: Sending, receipt: ReceiptFrom): Promise<void> {
  const at = new Date().toISOString();
  const addReceipt = ({ recipients }: Sending): { changed: Recipient[]; recipients: Recipient[] } => {
    const named = [receipt.recipient, receipt.from].filter((address) => address !== null);
    const reader =
      recipients.find(({ address }) => named.some((one) => sameAddress(one, address))) ??
      (recipients.length === 1 ? recipients[0] : undefined);
    if (!reader || reader.receipt) return { changed: [], recipients };
    const now: Recipient = { ...reader, receipt: { disposition: receipt.disposition, at } };
    return { changed: [now], recipients: recipients.map((one) => (one === reader ? now : one)) };
  };
  const { changed, recipients } = addReceipt(sending);
  if (changed.length === 0) return;
  await saveWithRetry(deps.outbox, { ...sending, recipients, updatedAt: at }, addReceipt);
  for (const { address } of changed) {
    const disposition = receipt.disposition ?? "";
    deps.emit({
      kind: "send.receipt_received",
      mailbox: sending.mailbox,
      sending: sending.id,
      recipient: address,
      disposition,
    });
  }
}

async function recordBounce(
  deps: LinkToSendingDeps,
  mailbox: Mailbox,
  sending: Sending,
  failed: RecipientReport[],
): Promise<void> {
  const { changed, recipients } = markBounced(sending, failed);
  if (changed.length === 0) return;
  const state = overallState(recipients);
  const now = new Date().toISOString();
  const reason = state === "bounced" ? (changed[0]?.response ?? sending.reason) : sending.reason;
  await saveWithRetry(deps.outbox, { ...sending, recipients, state, reason, updatedAt: now }, (newer) =>
    markBounced(newer, failed),
  );
  for (const { address, response } of changed) {
    const about = { mailbox: mailbox.id, sending: sending.id };
    deps.emit({ kind: "send.bounced", ...about, recipient: address, reason: response ?? "" });
    if (!sending.notify || mailbox.deliver.dialect !== "webhook") continue;
    const event = { event: "bounced" as const, recipient: address, at: now };
    await deps.tasks.send({ version: 1, kind: "notify", ...about, ...event });
  }
}

type Change = (sending: Sending) => { changed: Recipient[]; recipients: Recipient[] };

/** An attempt for other recipients may be written at the same time. Then the change is made to the newer revision. */
async function saveWithRetry(outbox: Outbox, sending: Sending, change: Change): Promise<void> {
  let next = sending;
  for (let tries = 1; ; tries++) {
    try {
      await outbox.save(next);
      return;
    } catch (error) {
      const now = await outbox.get(sending.id);
      if (asProblem(error).code !== "conflict" || !now || tries === MAX_SAVE_ATTEMPTS) throw error;
      const { recipients } = change(now);
      next = { ...now, recipients, state: overallState(recipients), updatedAt: sending.updatedAt };
    }
  }
}

function markBounced(sending: Sending, failed: RecipientReport[]): { changed: Recipient[]; recipients: Recipient[] } {
  const changed: Recipient[] = [];
  const recipients = sending.recipients.map((one): Recipient => {
    const report = findReport(one.address, sending, failed);
    if (!report || (one.state !== "sent" && one.state !== "unknown")) return one;
    const response = report.diagnostic ?? report.status ?? "returned without a reason";
    const now: Recipient = { ...one, state: "bounced", response, bounceReason: report.reason ?? "unknown" };
    changed.push(now);
    return now;
  });
  return { changed, recipients };
}

/** A report about an unknown address is about an alias. It belongs to the recipient if there was only one. */
function findReport(address: string, { recipients }: Sending, failed: RecipientReport[]): RecipientReport | undefined {
  const named = failed.find(({ recipient }) => recipient !== null && sameAddress(recipient, address));
  return named ?? (recipients.length === 1 ? failed[0] : undefined);
}
