/** A connection to send over, whatever its protocol, and what becomes of a message that is handed to it. */
import type { Recipient, StatusWish } from "../contract/sending.ts";

/** One message for the wire. `id` names it in notifications (RFC 3461 ENVID); `save` asks a server that files what it sends to do so. */
export type Order = {
  id: string;
  from: string;
  to: string[];
  raw: Buffer;
  dsn: StatusWish | null;
  save: boolean;
};

/** What became of one recipient in one attempt; `queued` is to be tried again. `response` is the server's own words. */
export type Verdict = Recipient;

/** The outcome of one attempt. `serverMessageId` is the Message-ID the provider put in place of ours, null where it kept it. */
export type Transmission = { verdicts: Verdict[]; serverMessageId: string | null };

/** Runs after the whole message is on the wire and before the end of it, with those it will go to. */
export type BeforeEnd = (accepted: string[]) => Promise<void>;

export interface SendSession {
  readonly open: boolean;
  /**
   * Hands one message over. `beforeEnd` runs after the whole message went out and before the end of it: only when it has
   * resolved may the server take the message, and what it throws is thrown here, with nothing taken. Throws a Problem when the
   * conversation failed before that point, or when the server answered that it took nothing; silence after it is the verdict
   * `unknown`.
   */
  transmit(order: Order, beforeEnd: BeforeEnd, signal: AbortSignal): Promise<Transmission>;
  /** Asks for what nobody gets who may not send; absent where opening the session proves as much. */
  prove?(signal: AbortSignal): Promise<void>;
  /** What the server offers, for people. */
  describe(): string;
  /** Takes leave, or cuts the connection. */
  close(): void;
}
