/** Where messages go: an endpoint takes one message by one POST, and says what became of it. */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import type { ParsedMessage, PartShown } from "../../shared/contract/received.ts";
import type { MessageRef } from "../../shared/contract/message.ts";

/** One part of a message that is delivered in parts: what it is remembered by, and what its receiver is told. */
export type Part = { name: string; about: PartShown };

/** A message, or a part of it, ready to be encoded. `parsed` holds what the letter brings; `parsed.limited` says what was left out of it and why. */
export type Letter = {
  deliveryId: string;
  mailbox: Mailbox;
  ref: MessageRef;
  flags: string[];
  raw: Uint8Array;
  parsed: ParsedMessage;
  part?: Part;
};

/** What one dialect puts on the wire. Headers are lower-case. */
export type WireRequest = { url: string; headers: Record<string, string>; body: Uint8Array | string };

export type Encode = (letter: Letter, now: Date) => WireRequest;

/** What one POST came to. `retryAt` is the endpoint's own Retry-After, within bounds. */
export type PostOutcome =
  | { kind: "accepted"; status: number; ms: number }
  | {
      kind: "refused";
      status: number | null;
      ms: number;
      reason: string;
      retry: "later" | "never";
      retryAt: Date | null;
      gone: boolean;
    };
