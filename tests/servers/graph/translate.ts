/** translateExchangeIds: the ids of one mailbox from one form into another. */
import type * as Graph from "@microsoft/microsoft-graph-types";
import { badRequest } from "./answers.ts";
import { parametersIn } from "./mail/folders.ts";
import { toEwsId, toRestId } from "./store/ids.ts";
import type { Mailbox, Message } from "./store/store.ts";
import type { MailAsk, MailOperation } from "./world.ts";

const MOST_IDS = 1000;

type Wish = { inputIds?: string[]; sourceIdType?: string; targetIdType?: string };

type Named = { restId: string; immutableId: string | undefined };

const SOURCES: Record<string, (ask: MailAsk, id: string) => Named | undefined> = {
  ewsId: (ask, id) => byRestId(ask, toRestId(id)),
  restId: (ask, id) => byRestId(ask, id),
  restImmutableEntryId: ({ mailbox }, id) => namedBy(mailbox.messages.get(id)),
};

const TARGETS: Record<string, (of: Named) => string | undefined> = {
  ewsId: ({ restId }) => toEwsId(restId),
  restId: ({ restId }) => restId,
  restImmutableEntryId: ({ immutableId }) => immutableId,
};

export const translateExchangeIds: MailOperation = (ask) => {
  const wish = parametersIn<Wish>(ask);
  const ids = wish.inputIds;
  const source = SOURCES[wish.sourceIdType ?? ""];
  const target = TARGETS[wish.targetIdType ?? ""];
  if (!ids || !source || !target)
    throw badRequest("The inputIds, sourceIdType and targetIdType are required.", "ErrorInvalidRequest");
  if (ids.length > MOST_IDS) throw badRequest(`At most ${MOST_IDS} ids are translated at once.`, "ErrorInvalidRequest");
  const value = ids.flatMap((sourceId): Graph.ConvertIdResult[] => {
    const found = source(ask, sourceId);
    const targetId = found && target(found);
    if (targetId !== undefined) return [{ sourceId, targetId }];
    if (ask.world.behaviour.untranslated === "missing") return [];
    return [{ sourceId, errorDetails: { code: "ErrorInvalidIdMalformed", message: "Id is malformed." } }];
  });
  const context = `${ask.world.root}/v1.0/$metadata#Collection(microsoft.graph.convertIdResult)`;
  return { status: 200, json: { "@odata.context": context, value } };
};

function namedBy(message: Message | undefined): Named | undefined {
  return message && { restId: message.id, immutableId: message.immutableId };
}

/** Folders have no other id than this one. */
function byRestId({ world, mailbox }: MailAsk, id: string): Named | undefined {
  const message = world.store.messages.get(id);
  if (message) return owned(mailbox, message);
  return mailbox.folders.has(id) ? { restId: id, immutableId: undefined } : undefined;
}

function owned(mailbox: Mailbox, message: Message): Named | undefined {
  return message.folder.mailbox === mailbox ? namedBy(message) : undefined;
}
