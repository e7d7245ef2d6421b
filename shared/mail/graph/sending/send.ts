/**
 * Sending through Graph, with the same promises as SMTP: nothing twice, and `unknown` if only the server can know. A
 * message becomes a draft, which can be asked about after it was sent. Without the permission for drafts it goes out in
 * one request.
 */
import type { Mailbox, MailboxOf } from "../../../contract/mailbox.ts";
import { asProblem, Problem } from "../../../contract/problem.ts";
import { narrowMailbox } from "../../defaults.ts";
import { getBccRecipients } from "../../exchange/recipients.ts";
import { base64Body } from "../../http/request-body.ts";
import { MIME_LIMITS, limitedReasons } from "../../mime/limits.ts";
import { fieldValue, readHeader } from "../../mime/header.ts";
import type { BeforeEnd, SendRequest, SendResult, SendSession } from "../../outgoing.ts";
import { parseAddressHeader, sameAddress } from "../../smtp/addresses.ts";
import { GraphRefusal } from "../client/errors.ts";
import { type GraphDeps, type GraphSession, openGraph } from "../client/session.ts";
import { createDraft, deleteDraft, type Draft, draftPath, MAX_REQUEST_BYTES, takeBackDraft } from "./drafts.ts";
import { askOutcome } from "./outcome.ts";

/** Times as multiples of one step's deadline: how long a draft may stay one, and how long it is asked about. */
const DRAFT_FACTOR = 4;
const ASK_FACTOR = 20;
/** After an answer that the message was accepted it is asked about for a shorter time. */
const ACCEPTED_FACTOR = 6;
const HEADER_LIMITS = {
  bytes: MIME_LIMITS.headerBytes,
  fields: MIME_LIMITS.fields,
  fieldBytes: MIME_LIMITS.headerBytes,
};
const ONLY_SEND_FIX =
  "Grant the application the permission Mail.ReadWrite: without it the service cannot make drafts, so messages are limited to 3 MB.";

type SendContext = { session: GraphSession; mailbox: MailboxOf<"graph">; command: number };

/** A session for sending, with the login that the mailbox is received by. */
export async function openGraphSending(deps: GraphDeps, given: Mailbox, signal: AbortSignal): Promise<SendSession> {
  const mailbox = narrowMailbox(given, "graph");
  let session = await openGraph(deps, mailbox, signal);
  /** The session, opened again with the new credentials if its application was changed. */
  const current = async (during: AbortSignal) => {
    if (!session.open || (await session.isCurrent())) return session;
    await session.close();
    session = await openGraph(deps, mailbox, during);
    return session;
  };
  let mayDraft = true;
  return {
    get open() {
      return session.open;
    },
    async send(order, beforeEnd, during) {
      const context = { session: await current(during), mailbox, command: deps.timeouts.command };
      return transmit(context, order, beforeEnd, during);
    },
    async verifyPermission(during) {
      await proveSending(session, during);
      mayDraft = await mayMakeDrafts(session, mailbox, during);
    },
    describe: () =>
      mayDraft
        ? "sends by drafts"
        : "may send, but make no drafts: messages up to 3 MB, and a lost answer stays unknown",
    close: () => void session.close(),
  };
}

/** A message without a recipient is refused after the permission was checked. */
async function proveSending(session: GraphSession, signal: AbortSignal): Promise<void> {
  try {
    const body = { message: { subject: "Test of the permission to send" }, saveToSentItems: false };
    await session.submit("Trying to send", `${session.base}/sendMail`, { body }, signal);
  } catch (error) {
    if (!(error instanceof GraphRefusal) || error.status !== 400) throw error;
  }
}

async function mayMakeDrafts(
  session: GraphSession,
  mailbox: MailboxOf<"graph">,
  signal: AbortSignal,
): Promise<boolean> {
  const raw = Buffer.from(`From: ${mailbox.address}\r\nSubject: Test of the permission for drafts\r\n\r\n`);
  try {
    const id = await createDraft(session, { raw, messageId: null, bcc: [], from: null }, signal);
    await deleteDraft(session, id, signal);
    return true;
  } catch (error) {
    if (isDenied(error)) return false;
    throw error;
  }
}

function isDenied(error: unknown): boolean {
  return error instanceof GraphRefusal && error.status === 403 && error.code === "access";
}

async function transmit(
  context: SendContext,
  order: SendRequest,
  beforeEnd: BeforeEnd,
  signal: AbortSignal,
): Promise<SendResult> {
  const { session, mailbox } = context;
  const draft = toDraft(mailbox, order);
  const own = { ...context, order, beforeEnd };
  let id: string;
  try {
    id = await createDraft(session, draft, signal);
  } catch (error) {
    if (isDenied(error)) return sendAtOnce(own, draft, signal);
    throw toFinalProblem(error);
  }
  return sendDraft(own, { id, messageId: draft.messageId }, signal);
}

function toDraft({ address }: MailboxOf<"graph">, { raw, to }: SendRequest): Draft {
  const { fields } = readHeader(raw, { from: 0, to: raw.length }, HEADER_LIMITS, limitedReasons());
  const [from = address] = parseAddressHeader(fieldValue(fields, "from") ?? "");
  const messageId = fieldValue(fields, "message-id")?.trim() ?? null;
  return { raw, messageId, bcc: getBccRecipients(raw, to), from: sameAddress(from, address) ? null : from };
}

type Transmission = SendContext & { order: SendRequest; beforeEnd: BeforeEnd };

async function sendDraft(
  { session, command, order, beforeEnd }: Transmission,
  { id, messageId }: { id: string; messageId: string | null },
  signal: AbortSignal,
): Promise<SendResult> {
  await beforeEnd(order.to);
  signal.throwIfAborted();
  const draftMs = DRAFT_FACTOR * command;
  let failure: Problem | undefined;
  let hasLeft = false;
  const onLeave = () => void (hasLeft = true);
  try {
    await session.submit("Sending a draft", `${draftPath(session, id)}/send`, { body: {}, onLeave }, signal);
  } catch (error) {
    if (!hasLeft || isRefused(error)) {
      await deleteDraft(session, id, signal).catch(() => undefined);
      throw toFinalProblem(error);
    }
    failure = asProblem(error);
  }
  const waitMs = (failure ? ASK_FACTOR : ACCEPTED_FACTOR) * command;
  const outcome = await askOutcome(session, id, { draftMs, waitMs }, signal);
  if (outcome.kind === "draft") {
    // The next attempt makes a new draft. If nobody can tell whether this one was sent, there is none.
    const wasDraft = await takeBackDraft(session, id, signal).catch((error: unknown) => asProblem(error));
    if (wasDraft instanceof Problem) return unknownResult(order, wasDraft);
    if (wasDraft) throw new Problem("unavailable", "Microsoft Graph did not send the message; it is still a draft");
  }
  if (outcome.kind === "unknown" && failure) return unknownResult(order, failure);
  const given = outcome.kind === "sent" ? outcome.messageId : null;
  return toResult(order, "sent", { given: given === messageId ? null : given });
}

/** Without drafts nothing can be asked afterwards. */
async function sendAtOnce(
  { session, order, beforeEnd }: Transmission,
  { raw, bcc }: Draft,
  signal: AbortSignal,
): Promise<SendResult> {
  const whole = bcc.length === 0 ? raw : Buffer.concat([Buffer.from(`Bcc: ${bcc.join(",\r\n ")}\r\n`), raw]);
  if (whole.length > MAX_REQUEST_BYTES)
    throw new Problem("refused", "The message is larger than Graph takes in one request", {
      retry: "never",
      fix: ONLY_SEND_FIX,
    });
  await beforeEnd(order.to);
  signal.throwIfAborted();
  let hasLeft = false;
  const onLeave = () => void (hasLeft = true);
  try {
    const body = { body: base64Body(whole), contentType: "text/plain", onLeave } as const;
    await session.submit("Sending a message", `${session.base}/sendMail`, body, signal);
    return toResult(order, "sent");
  } catch (error) {
    if (!hasLeft || isRefused(error)) throw toFinalProblem(error);
    return unknownResult(order, asProblem(error));
  }
}

/** An answer that says that nothing was accepted. Without an answer, or after a failure inside Graph, nobody knows. */
function isRefused(error: unknown): boolean {
  if (error instanceof GraphRefusal) return error.status < 500;
  return error instanceof Problem && ["token", "throttled"].includes(error.code);
}

/** Errors that will be the same next time: of the message or of its recipients. */
const PERMANENT = /^(errorinvalidrecipients|errormimecontent|errorinvalidrequest|errorattachmentsizelimit)/;

function toFinalProblem(error: unknown): unknown {
  if (!(error instanceof GraphRefusal) || error.retry === "never") return error;
  if (!error.codes.some((code) => PERMANENT.test(code))) return error;
  const { evidence } = error;
  return new Problem("refused", "Microsoft Graph refused the message", {
    retry: "never",
    ...(evidence !== null && { evidence }),
  });
}

function unknownResult(order: SendRequest, { message, evidence }: Problem): SendResult {
  const why = evidence === null ? message : `${message} (${evidence})`;
  return toResult(order, "unknown", { response: `The message was handed over, and no answer came: ${why}` });
}

function toResult(
  { to }: SendRequest,
  state: "sent" | "unknown",
  { response = "Microsoft Graph accepted the message", given = null as string | null } = {},
): SendResult {
  return { recipients: to.map((address) => ({ address, state, response })), serverMessageId: given };
}
