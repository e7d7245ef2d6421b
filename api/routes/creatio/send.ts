/** A CRM's outgoing mail. The answer is empty when the mail was sent, and a text for the CRM's user when it was not. */
import type { Mailbox } from "../../../shared/contract/mailbox.ts";
import type { OutgoingMessage } from "../../../shared/contract/outgoing.ts";
import { asProblem, type FieldError, Problem } from "../../../shared/contract/problem.ts";
import type { Sending } from "../../../shared/contract/sending.ts";
import { acceptMessage } from "../../outgoing.ts";
import { waitForOutcome } from "../outgoing.ts";
import type { CrmActor } from "./access.ts";
import { outgoingMessageFrom } from "./letter.ts";
import { getMember } from "./members.ts";
import { type CreatioRequest, type CreatioDeps, textResponse } from "./operations.ts";
import { resolveSender } from "./sender.ts";

/** A CRM waits five minutes. A mail that is not sent by then stays in the queue, and the user gets a text about it. */
const SEND_TIMEOUT_MS = 270_000;

/**
 * Sends the message of a SendCommand under the CRM's own Message-ID and answers when its result is known. The same
 * Message-ID again is never a second message, unless nobody got the first one. Versions before 2 notice a failure only
 * by its status (500). Later ones show the text to their user.
 */
export async function send(deps: CreatioDeps, asked: CreatioRequest): Promise<Response> {
  const text = await sendAndWait(deps, asked).catch((error: unknown) => failureText(error));
  return textResponse(text, text === "" || asked.version2 ? 200 : 500);
}

/** Returns "" when the mail server accepted the message for everybody. */
async function sendAndWait(deps: CreatioDeps, { body, actor, signal }: CreatioRequest): Promise<string> {
  const credentials = getMember(body, "Credentials");
  const message = outgoingMessageFrom(body);
  const mailbox = await resolveSender(deps, credentials, message);
  const sending = await findOrAccept(deps, mailbox, message, actor);
  return outcomeText(await waitForOutcome(deps, sending, signal(SEND_TIMEOUT_MS)));
}

/** The sending with this Message-ID: the stored one, or a new one if no stored one reached anybody. */
async function findOrAccept(
  deps: CreatioDeps,
  mailbox: Mailbox,
  message: OutgoingMessage,
  actor: CrmActor,
): Promise<Sending> {
  const id = message.messageId;
  if (id === undefined) return acceptMessage(deps, mailbox, message, { key: null, actor });
  const existing = await deps.store.outbox.findByMessageId(mailbox.id, id);
  const reachedNobody = existing?.state === "failed" && existing.recipients.every(({ state }) => state === "failed");
  if (existing && !reachedNobody) return existing;
  // Requests at the same time get the same key, and so become one message.
  const key = existing ? `crm ${id} after ${existing.id}` : `crm ${id}`;
  return acceptMessage(deps, mailbox, message, { key: key.slice(-255), actor });
}

/** How many recipients a text lists. */
const MAX_NAMED = 5;

/** The result in words for the user who sent it; empty for success. A bounce comes back as mail. */
export function outcomeText({ state, recipients, reason, messageId }: Sending): string {
  if (state === "sent" || state === "bounced") return "";
  const reports = OUTCOMES.flatMap(({ state: outcome, text }) => {
    const concerned = recipients.filter((one) => one.state === outcome);
    return concerned.length > 0 ? [text(concerned, reason, messageId)] : [];
  });
  return reports.join(". ");
}

type Concerned = Sending["recipients"];
type OutcomeText = (concerned: Concerned, reason: string | null, messageId: string) => string;

/** What the user must know, most urgent first. Recipients that have the mail must not get it again. */
const OUTCOMES: { state: Concerned[number]["state"]; text: OutcomeText }[] = [
  { state: "failed", text: (concerned, reason) => `The mail server refused it for ${listReplies(concerned, reason)}` },
  {
    state: "queued",
    text: (concerned, reason) =>
      `Not sent yet to ${listReplies(concerned, reason ?? "the mail server is slow")}; the service tries again for three days`,
  },
  {
    state: "unknown",
    text: (concerned, reason, messageId) =>
      `It may have been sent to ${listReplies(concerned, reason)}: the mail server's answer was lost (${messageId})`,
  },
  {
    state: "sent",
    text: (concerned) =>
      `Sent already to ${listSome(
        concerned.map(({ address }) => address),
        ", ",
      )}; do not send it to them again`,
  },
];

function listReplies(concerned: Concerned, reason: string | null): string {
  const named = concerned.map(({ address, response }) => {
    const words = response ?? reason;
    return words === null ? address : `${address} (${words})`;
  });
  return listSome(named, "; ");
}

function listSome(named: string[], separator: string): string {
  const more = named.length - MAX_NAMED;
  return [...named.slice(0, MAX_NAMED), ...(more > 0 ? [`and ${more} more`] : [])].join(separator);
}

function failureText(error: unknown): string {
  const problem = asProblem(error);
  if (!(error instanceof Problem) || problem.code === "internal") throw error;
  // The user knows addresses, but not the fields of an API.
  if (problem.errors.length > 0 && problem.code === "invalid")
    return `The message was not sent: ${problem.errors.map(describeFieldError).join("; ")}`;
  const evidence = problem.evidence === null ? "" : ` (${problem.evidence})`;
  return `${problem.message}${evidence}. ${problem.fix}`;
}

/** The CRM's names for the fields of a message. */
const FIELD_NAMES: Record<string, string> = {
  from: "Sender",
  to: "Recipient",
  cc: "Copy recipient",
  bcc: "Blind copy recipient",
  subject: "Subject",
  attachments: "Attachment",
};

function describeFieldError({ path, message }: FieldError): string {
  const [field = "", place] = path.split(".");
  const number = place === undefined || Number.isNaN(Number(place)) ? "" : ` ${Number(place) + 1}`;
  return `${FIELD_NAMES[field] ?? path}${number} ${message}`;
}
