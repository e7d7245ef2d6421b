/** Writes into the record of a delivery by what its message is found. */
import type { Delivery } from "../../shared/contract/delivery.ts";
import type { ParsedMessage } from "../../shared/contract/received.ts";
import { parseHeadersOnly } from "../../shared/mail/mime/message.ts";
import { summarizeMessage } from "../../shared/store/delivery-search.ts";

/** `keepSubjects` is false where the records must have nothing of the messages. */
type SummaryDeps = { keepSubjects: boolean };

export function describeMessage(
  { keepSubjects }: SummaryDeps,
  delivery: Delivery,
  parsed: Pick<ParsedMessage, "subject" | "from" | "messageId">,
): Delivery {
  if (keepSubjects) return { ...delivery, message: summarizeMessage(parsed) };
  const { message: _, ...bare } = delivery;
  return bare;
}

/** For a delivery that waits before its message was parsed. */
export function describeUnread(deps: SummaryDeps, delivery: Delivery, raw: Uint8Array): Delivery {
  if (delivery.message && deps.keepSubjects) return delivery;
  return describeMessage(deps, delivery, parseHeadersOnly(raw, "only the header is read"));
}
