/** The result for each recipient of a message, even if the transaction did not end. */
import type { SMTPEnvelope } from "nodemailer/lib/smtp-connection";
import type { Given } from "../../evidence/evidence.ts";
import { CUT_AT_RECIPIENT, type RecipientResult, type SendRequest, type SendResult } from "../outgoing.ts";
import { readTexts } from "./library.ts";
import {
  isSessionLimit,
  parseReply,
  type SmtpReply,
  toRecipientResult,
  toRecipientResults,
  toSmtpProblem,
} from "./replies.ts";

type Results = Pick<SendResult, "recipients" | "otherConnection">;
type Transaction = { envelope: SMTPEnvelope; given: Given };
/** `pending`: the recipient without a reply that was sent last, if it is known. */
type Failure = Transaction & { error: unknown; released: boolean; pending: string | undefined; message: Buffer };

/** The recipients that the server refused by name, with its words. */
export function getRefusedRecipients({ envelope, given }: Transaction): RecipientResult[] {
  return getRefusals(envelope).map(({ address, reply }) => toRecipientResult(address, reply, given));
}

/** True if the server refused a recipient because of what the transaction or the connection already had. */
export function hasSessionLimit(envelope: SMTPEnvelope): boolean {
  return getRefusals(envelope).some(({ reply }) => isSessionLimit(reply));
}

function getRefusals(envelope: SMTPEnvelope): { address: string; reply: SmtpReply }[] {
  const errors: unknown = Reflect.get(envelope, "rejectedErrors");
  return (Array.isArray(errors) ? errors : []).map((error: unknown) => ({
    address: String(error instanceof Error ? Reflect.get(error, "recipient") : ""),
    reply: parseReply(error),
  }));
}

/**
 * The results that follow from a failure. A recipient that the server refused by name stays refused, whatever happened
 * to the connection. Recipients for whom the end of the message was sent without an answer are `unknown`. Throws the
 * Problem of the failure if it says nothing about any recipient.
 */
export function getResultsAfterFailure(
  { error, released, pending, message, ...transaction }: Failure,
  order: SendRequest,
  signal: AbortSignal,
): Results {
  const { envelope } = transaction;
  const reply = parseReply(error);
  // Before DATA the server has nothing of the message that it could repeat.
  const given = { ...transaction.given, ...((released || reply.command === "DATA") && { message }) };
  const refused = getRefusedRecipients(transaction);
  const refusedAddresses = new Set(refused.map(({ address }) => address));
  const others = order.to.filter((address) => !refusedAddresses.has(address));
  const replied = reply.status >= 400 && reply.code !== "ECONNECTION";
  if (released && !replied) return { recipients: [...getUnknownRecipients(transaction, error, signal), ...refused] };
  if (signal.aborted) throw signal.reason;
  const aboutMessage = ["MAIL FROM", "DATA"].includes(reply.command) && reply.status >= 400 && reply.status !== 421;
  // With pipelining there are replies for the recipients too. After a refused sender they say nothing about the
  // recipients.
  if (aboutMessage && reply.command === "MAIL FROM")
    return { recipients: toRecipientResults(order.to, reply, given), otherConnection: "ask" };
  // If a recipient was refused by name, the attempt makes progress, so the other recipients need not wait.
  const otherConnection = refused.some(({ state }) => state === "failed") ? "continue" : "ask";
  if (others.length === 0) return { recipients: refused, ...(hasSessionLimit(envelope) && { otherConnection }) };
  if (released || aboutMessage) {
    const recipients = [...toRecipientResults(others, reply, given), ...refused];
    return { recipients, ...(isSessionLimit(reply) && { otherConnection }) };
  }
  const problem = toSmtpProblem(error, given);
  const isNarrowed = pending !== undefined && reply.status === 0 && order.to.length > 1;
  // Some servers close the connection after several unknown recipients. Each connection gives some results, until
  // only good recipients are left.
  if (otherConnection === "ask" && !isNarrowed) throw problem;
  const words = problem.evidence ?? problem.message;
  const waiting = others.map((address): RecipientResult => ({
    address,
    state: "queued",
    response: isNarrowed && address === pending ? CUT_AT_RECIPIENT : words,
  }));
  return { recipients: [...waiting, ...refused], otherConnection: "continue" };
}

function getUnknownRecipients(
  { envelope, given }: Transaction,
  error: unknown,
  signal: AbortSignal,
): RecipientResult[] {
  const why = signal.aborted ? "the service stopped before the server answered" : toSmtpProblem(error, given).message;
  const response = `The message was handed over, and no answer came: ${why}`;
  return readTexts(envelope, "accepted").map((address) => ({ address, state: "unknown", response }));
}
