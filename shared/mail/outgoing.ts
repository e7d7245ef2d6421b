/** A session for sending, for every protocol, and the result of a message that is handed to it. */
import type { Recipient, DsnRequest } from "../contract/sending.ts";

/**
 * One message to send. `id` names it in delivery notifications (RFC 3461 ENVID). `save` asks a server that keeps sent
 * mail to keep this message.
 */
export type SendRequest = {
  id: string;
  from: string;
  to: string[];
  raw: Buffer;
  dsn: DsnRequest | null;
  save: boolean;
  /** Waits for each reply before the next command, so that no reply is lost if the server closes the connection. */
  stepwise: boolean;
};

/**
 * The result for one recipient in one attempt. `queued` means that it is tried again. `response` has the server's own
 * words.
 */
export type RecipientResult = Recipient;

/**
 * The result of one attempt. `serverMessageId` is the Message-ID that the provider assigned instead; null if it kept
 * the given one. `otherConnection` is set if the refusals may concern only this connection, because it reached a limit
 * of messages, recipients or errors. `ask`: the refusals count only if another connection gets them too. `continue`:
 * some recipients have their result, and the others are sent over another connection at once.
 */
export type SendResult = {
  recipients: RecipientResult[];
  serverMessageId: string | null;
  otherConnection?: "ask" | "continue";
};

/**
 * The response for a recipient at which the server closed the connection. The message is sent to the others without it.
 */
export const CUT_AT_RECIPIENT = "The mail server closed the connection when it was asked about this recipient";

/** Runs after the whole message was sent except its end, with the recipients that will get it. */
export type BeforeEnd = (accepted: string[]) => Promise<void>;

export interface SendSession {
  readonly open: boolean;
  /**
   * Hands one message over. `beforeEnd` runs after the whole message was sent except its end. Only when it has resolved
   * can the server accept the message. What it throws is thrown here, and nothing was accepted. Throws a Problem when
   * the connection failed before that point, or when the server answered that it accepted nothing. Without an answer
   * after that point the result is `unknown`.
   */
  send(order: SendRequest, beforeEnd: BeforeEnd, signal: AbortSignal): Promise<SendResult>;
  /** Makes a request that the server refuses to a login that may not send. Absent if opening the session proves it. */
  verifyPermission?(signal: AbortSignal): Promise<void>;
  /** What the server offers, for people. */
  describe(): string;
  /** Says QUIT, or cuts the connection. */
  close(): void;
}
