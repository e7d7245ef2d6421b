/** What lists and bulk actions are filtered by: which mailboxes and which deliveries match. */
import * as v from "valibot";
import type { Delivery } from "../../shared/contract/delivery.ts";
import { MailboxStatus } from "../../shared/contract/mailbox.ts";
import type { MailboxQuery } from "../../shared/store/store.ts";
import { matchesMessage } from "../../shared/store/delivery-search.ts";
import { endpointHost, serverHost, type ShownMailbox } from "../pages/console/shown-mailbox.ts";

const Part = (what: string) => v.exactOptional(v.pipe(v.string(), v.maxLength(500), v.description(what)));

/** How a mailbox can be shown: a status, or `unverified`. */
const Shown = v.picklist([...MailboxStatus.options, "unverified"]);
const ShownFilter = v.pipe(
  Shown,
  v.description("Its state as the console shows it. `unverified`: its server has not answered for too long."),
);

/** All members that are there must match. Texts match as parts, whatever their case. */
export const MailboxFilter = v.strictObject({
  state: v.exactOptional(ShownFilter),
  protocol: v.exactOptional(v.picklist(["imap", "pop3", "ews", "graph"])),
  host: Part("A part of the host of its mail server or of its endpoint."),
  q: Part("A part of its address, id or name."),
});
export type MailboxFilter = v.InferOutput<typeof MailboxFilter>;

/** Of parked deliveries, or of those that wait for their next attempt. All members that are there must match. */
export const DeliveryFilter = v.strictObject({
  state: v.exactOptional(v.pipe(v.picklist(["parked", "retrying"]), v.description("`parked` by default."))),
  mailbox: v.exactOptional(v.pipe(v.string(), v.description("The id of their mailbox."))),
  host: Part("A part of the host of their endpoint."),
  reason: Part("A part of the reason for which they are parked."),
  text: Part("A part of the subject or of the sender of their message, or its whole Message-ID."),
});
export type DeliveryFilter = v.InferOutput<typeof DeliveryFilter>;

/** Filters as a page has them: an empty text is no filter. */
type MailboxTexts = { [K in keyof MailboxFilter]?: string };
type DeliveryTexts = { host?: string; reason?: string; text?: string };

export function matchesMailbox({ mailbox, shown }: ShownMailbox, filter: MailboxTexts): boolean {
  const { state = "", protocol = "", host = "", q = "" } = filter;
  if (state !== "" && shown !== state) return false;
  if (protocol !== "" && mailbox.receive.protocol !== protocol) return false;
  if (!includesText([serverHost(mailbox), endpointHost(mailbox.deliver.url)], host)) return false;
  return includesText([mailbox.address, mailbox.id, mailbox.name], q);
}

/** The part of a filter that the store has an index for. Two of the states that are shown are none of the store's. */
export function storedFilter({ state, q = "" }: MailboxTexts): Pick<MailboxQuery, "status" | "address"> {
  const status = MailboxStatus.options.find((one) => one === state && one !== "needs_attention");
  return { ...(status && { status }), ...(/^[^\s@]+@[^\s@]+\.[^\s@]+$/.test(q) && { address: q }) };
}

export function matchesDelivery(delivery: Delivery, { host = "", reason = "", text = "" }: DeliveryTexts): boolean {
  if (text !== "" && !matchesMessage(delivery.message, text)) return false;
  return includesText([endpointHost(delivery.endpoint)], host) && includesText([reasonOf(delivery)], reason);
}

/** The reason without the number of attempts before it, so that equal reasons are one. */
export function reasonOf({ reason }: Pick<Delivery, "reason">): string {
  return (reason ?? "no reason is known").replace(/^given up after \d+ attempts: /, "");
}

/** Whether one of the texts has this part, whatever its case. */
export function includesText(texts: (string | undefined)[], part: string): boolean {
  return texts.some((text) => text?.toLowerCase().includes(part.toLowerCase()));
}
