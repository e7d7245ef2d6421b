/**
 * Messages that the mail server has and does not give: counted, shown on their mailbox, and in the end parked if the
 * fault is theirs.
 */
import type { Delivery } from "../../shared/contract/delivery.ts";
import type { DownloadFault } from "../../shared/contract/learned.ts";
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import type { MessageRef } from "../../shared/contract/message.ts";
import { asProblem, type Problem } from "../../shared/contract/problem.ts";
import { deliveryId } from "../../shared/mail/fingerprint.ts";
import type { MailConnection } from "../../shared/mail/mail.ts";
import type { Store } from "../../shared/store/store.ts";
import type { Emit } from "../../shared/telemetry/events.ts";
import { clock } from "../../shared/time.ts";
import { OWN_CONNECTION, type ReaderPool } from "../mail/reader-pool.ts";
import { LineFull } from "../shares/lines.ts";

export type WithheldDeps = {
  store: Pick<Store, "mailboxes" | "deliveries">;
  readers: ReaderPool;
  emit: Emit;
};

/** Recent deliveries that are requested again to see whether the mail server gives any message at all. */
const MAX_CONTROLS = 5;
/** If the server has none of those any more: messages received within this time. */
const CONTROL_DAYS_MS = 30 * 24 * 3_600_000;

/** Parked messages that are left out of that: the newest ones. */
const MAX_PARKED = 100;

type Withheld = { ref: MessageRef; failed: ReadonlyMap<MessageRef, Problem>; fetched: number; since: string };

/**
 * Whether it is a message's own fault that the mail server does not give it. It is when the server gave others since it was first asked
 * for, or gives one now. The same refusal for every message is the mailbox's fault: then nothing is parked. Where there is nothing to
 * compare with, different words tell them apart.
 */
export async function isOwnFault(
  deps: WithheldDeps,
  mailbox: Mailbox,
  { ref, failed, fetched, since }: Withheld,
  signal: AbortSignal,
): Promise<boolean> {
  if (fetched > 0) return true;
  const recent = await deps.store.deliveries.list({ mailbox: mailbox.id, state: "delivered", limit: MAX_CONTROLS });
  if (recent.items.some((delivery) => delivery.createdAt > since)) return true;
  const given = await givesOthers(deps, mailbox, { failed, delivered: recent.items.map((one) => one.ref) }, signal);
  if (given !== null) return given;
  const words = failed.get(ref)?.message.replaceAll(String(ref.uid), "");
  const alike = [...failed].filter(([other, { message }]) => message.replaceAll(String(other.uid), "") === words);
  return alike.length === 1;
}

/** Whether the mail server gives another message of this mailbox now; null where there is no other to ask for. */
async function givesOthers(
  deps: WithheldDeps,
  mailbox: Mailbox,
  { failed, delivered }: { failed: ReadonlyMap<MessageRef, Problem>; delivered: MessageRef[] },
  signal: AbortSignal,
): Promise<boolean | null> {
  const parked = await deps.store.deliveries.list({ mailbox: mailbox.id, state: "parked", limit: MAX_PARKED });
  const withheld = [...failed.keys(), ...parked.items.map((one) => one.ref)];
  const isOther = ({ folder, epoch, uid }: MessageRef) =>
    !withheld.some((ref) => ref.folder === folder && ref.epoch === epoch && ref.uid === uid);
  const ask = async (connection: MailConnection): Promise<boolean | null> => {
    const known = await givesOne(connection, delivered.filter(isOther), signal);
    if (known !== null) return known;
    const since = new Date(clock.now() - CONTROL_DAYS_MS);
    for await (const listed of connection.listSince(since, [], signal)) {
      const others = listed.filter(isOther).toSorted((a, b) => a.size - b.size);
      const given = await givesOne(connection, others.slice(0, MAX_CONTROLS), signal);
      if (given !== null) return given;
    }
    return null;
  };
  try {
    return await deps.readers.use(mailbox, OWN_CONNECTION, ask, signal);
  } catch (error) {
    if (signal.aborted || error instanceof LineFull) throw error;
    return false;
  }
}

/** Whether the mail server gives one of these messages. Null when it has none of them any more. */
async function givesOne(connection: MailConnection, refs: MessageRef[], signal: AbortSignal): Promise<boolean | null> {
  let result: boolean | null = null;
  for (const ref of refs) {
    const given = await gives(connection, ref, signal);
    if (given) return true;
    result = given ?? result;
  }
  return result;
}

/** Null for a message that no longer exists. */
async function gives(connection: MailConnection, ref: MessageRef, signal: AbortSignal): Promise<boolean | null> {
  try {
    for await (const result of connection.fetch([ref], signal)) return "raw" in result;
    return null;
  } catch (error) {
    // The folder was renumbered since, so that message cannot be requested.
    if (asProblem(error).code === "gone") return null;
    throw error;
  }
}

/** Shows on the mailbox what prevents downloads; null when nothing does any more. */
export async function showDownloadFault(
  { store }: Pick<WithheldDeps, "store">,
  mailbox: Mailbox,
  fault: DownloadFault | null,
): Promise<void> {
  if (JSON.stringify(mailbox.downloads ?? null) === JSON.stringify(fault)) return;
  await store.mailboxes.amend(mailbox, (stored) => {
    const { downloads: _, ...rest } = stored;
    return fault ? { ...rest, downloads: fault } : rest;
  });
}

/** What is shown about messages that were not given: the first of them, with the server's own words. */
export function toDownloadFault(failed: ReadonlyMap<MessageRef, Problem>): DownloadFault | null {
  const [first] = failed;
  if (!first) return null;
  const [{ folder, uid }, { code, message, evidence }] = first;
  const others = failed.size - 1;
  const more = others === 0 ? "" : `, nor ${others} more`;
  return { folder, uid, code, cause: `Message ${uid} in ${folder} cannot be downloaded${more}: ${message}`, evidence };
}

/** The id of the record for a message whose content nobody has seen. */
export function withheldId({ id }: Mailbox, ref: MessageRef): string {
  return deliveryId(id, "", ref);
}

/** The id under which a message without bytes is parked: that of its replayed delivery, unless that one was delivered. */
export async function findParked(
  { store }: Pick<WithheldDeps, "store">,
  mailbox: Mailbox,
  ref: MessageRef,
  replayed: string | undefined,
): Promise<string> {
  const stored = replayed === undefined ? undefined : await store.deliveries.get(replayed);
  return stored?.state === "parked" ? stored.id : withheldId(mailbox, ref);
}

/** Whether the content of one delivery was first seen after the other one was parked. */
export async function wasDeliveredSince(
  { store }: Pick<WithheldDeps, "store">,
  parkedId: string,
  deliveredId: string,
): Promise<boolean> {
  const [parked, delivered] = [await store.deliveries.get(parkedId), await store.deliveries.get(deliveredId)];
  return parked !== undefined && delivered !== undefined && delivered.createdAt >= parked.createdAt;
}

/** Parks a message without bytes, so that a person sees it. A replay asks the mail server again. */
export async function parkWithheld(
  deps: WithheldDeps,
  delivery: Delivery,
  { message, evidence }: Problem,
): Promise<void> {
  const words = evidence === null ? "" : ` (${evidence})`;
  const reason = `the mail server does not give this message: ${message}${words}`;
  await deps.store.deliveries.save({ ...delivery, state: "parked", reason });
  const { id, mailbox, endpoint } = delivery;
  deps.emit({ kind: "mail.parked", mailbox, delivery: id, endpoint, attempts: 0, reason });
}

/** A replayed message came at last. The record of its parked delivery gets the id under which it was delivered. */
export async function closeWithheld(
  { store }: Pick<WithheldDeps, "store">,
  parkedId: string,
  deliveredId: string,
): Promise<void> {
  const parked = await store.deliveries.get(parkedId);
  if (parked?.state !== "parked") return;
  const reason = `the mail server gave it later: see ${deliveredId}`;
  await store.deliveries.save({ ...parked, state: "delivered", reason, nextAttemptAt: null });
}
