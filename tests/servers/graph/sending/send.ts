/** sendMail, and the sending of drafts: both answer before anything is sent. */
import type * as Graph from "@microsoft/microsoft-graph-types";
import { withFiles } from "../../exchange/letter.ts";
import { badRequest } from "../answers.ts";
import { parametersIn } from "../mail/folders.ts";
import type { MailAsk, MailOperation } from "../world.ts";
import { checkSize, completed, isMime, mimeIn } from "./compose.ts";
import { fromJson, namedDraft } from "./drafts.ts";
import { checkEnvelope, sendLater } from "./transport.ts";

const ACCEPTED = { status: 202 };

export const sendMail: MailOperation = (ask) => {
  checkSize(ask);
  const { raw, save } = isMime(ask) ? { raw: completed(mimeIn(ask), ask.mailbox), save: true } : ownJson(ask);
  checkEnvelope(ask, raw);
  ask.world.gate.send(ask.mailbox.guid);
  sendLater(ask, raw, { save });
  return ACCEPTED;
};

function ownJson(ask: MailAsk) {
  const { message, saveToSentItems, ...rest } = parametersIn<{ message?: Graph.Message; saveToSentItems?: boolean }>(
    ask,
  );
  const unknown = Object.keys(rest)[0];
  if (unknown !== undefined) throw badRequest(`The parameter '${unknown}' is not valid for the operation 'sendMail'.`);
  if (!message) throw badRequest("The message is missing.", "ErrorInvalidRequest");
  const draft = fromJson(ask.mailbox, message);
  return { raw: withFiles(completed(draft.raw, ask.mailbox), draft.files), save: saveToSentItems ?? true };
}

export const sendDraft: MailOperation = (ask) => {
  const draft = namedDraft(ask);
  const raw = withFiles(completed(draft.raw, ask.mailbox), draft.files);
  checkEnvelope(ask, raw);
  ask.world.gate.send(ask.mailbox.guid);
  sendLater(ask, raw, { draft, save: true });
  return ACCEPTED;
};
