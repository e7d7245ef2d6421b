/** A CRM's outgoing mail: answered by nothing when it was sent, and by words for its user when it was not. */
import type { Mailbox } from "../../../shared/contract/mailbox.ts";
import type { OutgoingMessage } from "../../../shared/contract/outgoing.ts";
import { asProblem, Problem } from "../../../shared/contract/problem.ts";
import type { Sending } from "../../../shared/contract/sending.ts";
import { takeUp } from "../../outgoing.ts";
import { settled } from "../outgoing.ts";
import { outgoingOf } from "./letter.ts";
import { member } from "./members.ts";
import { type Asked, type Deps, plainText } from "./operations.ts";
import { senderOf } from "./sender.ts";

/** A CRM waits five minutes; what is not sent by then waits in the queue, and its user is told so. */
const WAIT_MS = 270_000;

/**
 * Sends the message of a SendCommand under the CRM's own Message-ID and answers when its fate is known. The same Message-ID again
 * is never a second message, unless nobody got the first one. Versions before 2 notice a failure by its status (500) only, later ones by
 * the text, which they show to their user.
 */
export async function send(deps: Deps, asked: Asked): Promise<Response> {
  const words = await outcome(deps, asked).catch((error: unknown) => failure(error));
  return plainText(words, words === "" || asked.version2 ? 200 : 500);
}

/** "" when everybody's server took it. */
async function outcome(deps: Deps, { body, signal }: Asked): Promise<string> {
  const credentials = member(body, "Credentials");
  const message = outgoingOf(body);
  const mailbox = await senderOf(deps, credentials, message);
  const sending = await taken(deps, mailbox, message);
  return fate(await settled(deps, sending, signal(WAIT_MS)));
}

/** The sending of this Message-ID: the one there is, or a new one when there is none that reached anybody. */
async function taken(deps: Deps, mailbox: Mailbox, message: OutgoingMessage): Promise<Sending> {
  const id = message.messageId;
  if (id === undefined) return takeUp(deps, mailbox, message, null);
  const before = await deps.store.outbox.find(mailbox.id, id);
  const again = before?.state === "failed" && before.recipients.every(({ state }) => state === "failed");
  if (before && !again) return before;
  // Requests that come at the same time make the same key, and so one message.
  const key = before ? `crm ${id} after ${before.id}` : `crm ${id}`;
  return takeUp(deps, mailbox, message, key.slice(-255));
}

/** What became of it, in words for the user who sent it; none for success. A bounce comes back as mail. */
function fate({ state, recipients, reason, messageId }: Sending): string {
  if (state === "sent" || state === "bounced") return "";
  const words = recipients
    .filter((one) => one.state === state)
    .map(({ address, response }) => (response ? `${address}: ${response}` : address))
    .slice(0, 5)
    .join("; ");
  if (state === "queued")
    return `Not sent yet, it is tried again for three days (${reason ?? "the mail server is slow"})`;
  if (state === "unknown") return `It may have been sent: the mail server's answer was lost (${words}, ${messageId})`;
  const others = recipients.filter((one) => one.state === "sent").length;
  return `The mail server refused it: ${words || reason}${others > 0 ? `; ${others} others got it` : ""}`;
}

function failure(error: unknown): string {
  const problem = asProblem(error);
  if (!(error instanceof Problem) || problem.code === "internal") throw error;
  const evidence = problem.evidence === null ? "" : ` (${problem.evidence})`;
  return `${problem.message}${evidence}. ${problem.fix}`;
}
