/** The types of an endpoint: it gets one message by one POST and answers with an outcome. */
import type { Body } from "./body.ts";
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import type { ParsedMessage, PartView } from "../../shared/contract/received.ts";
import type { Evidence } from "../../shared/contract/evidence.ts";
import type { MessageRef } from "../../shared/contract/message.ts";

/**
 * One part of a message in parts: the name under which its acceptance is stored, and what the endpoint gets about it.
 */
export type DeliveryPart = { name: string; about: PartView };

/**
 * A message, or a part of it, ready to be encoded. `parsed` has its content; `parsed.limited` says what is missing and
 * why.
 */
export type DeliverableMessage = {
  deliveryId: string;
  mailbox: Mailbox;
  ref: MessageRef;
  flags: string[];
  raw: Uint8Array;
  parsed: ParsedMessage;
  part?: DeliveryPart;
};

/** A request of a dialect. Header names are in lower case. */
export type WireRequest = { url: string; headers: Record<string, string>; body: Body };

export type Encode = (letter: DeliverableMessage, now: Date) => WireRequest | Promise<WireRequest>;

/**
 * The outcome of one POST. `reason` has the service's words only. `words` are the endpoint's own (up to 500
 * characters), for the record of the attempt and nowhere else. `retryAt` is the endpoint's own Retry-After, within bounds.
 * `unreached`: nobody accepted a connection.
 */
export type PostOutcome =
  | { kind: "accepted"; status: number; ms: number }
  | {
      kind: "refused";
      status: number | null;
      ms: number;
      reason: string;
      words: Evidence | null;
      retry: "later" | "never";
      retryAt: Date | null;
      gone: boolean;
      unreached?: boolean;
    };
