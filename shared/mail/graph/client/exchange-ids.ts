/** Ids of Exchange Web Services and of Graph: messages of a mailbox that moved here have names of both kinds. */
import * as v from "valibot";
import type { MessageRef } from "../../../contract/message.ts";
import { Problem } from "../../../contract/problem.ts";
import { toRestId } from "../../exchange/at-graph.ts";
import type { GraphSession } from "./session.ts";

/** `restId` is Graph's id that changes when a message moves; folders have no other. */
export type IdKind = "ewsId" | "restId" | "restImmutableEntryId";

const AT_ONCE = 1_000;
const Translated = v.object({
  value: v.array(v.object({ sourceId: v.nullish(v.string()), targetId: v.nullish(v.string()) })),
});

/** The ids in their other form. Those that the mailbox does not know are left out. */
export async function translateIds(
  session: GraphSession,
  ids: readonly string[],
  { from, to }: { from: IdKind; to: IdKind },
  signal: AbortSignal,
): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (let start = 0; start < ids.length; start += AT_ONCE) {
    const body = { inputIds: ids.slice(start, start + AT_ONCE), sourceIdType: from, targetIdType: to };
    const path = `${session.base}/translateExchangeIds`;
    const order = { body, shape: Translated };
    const { value } = await session.create("Translating ids", path, order, signal).catch(explainAccess);
    for (const { sourceId, targetId } of value) if (sourceId != null && targetId != null) found.set(sourceId, targetId);
  }
  return found;
}

function explainAccess(error: unknown): never {
  if (!(error instanceof Problem) || error.code !== "access") throw error;
  throw new Problem("access", "The application may not translate ids of Exchange Web Services", {
    fix: "Grant the application permission User.Read.All (User.Read if a person consented). It can be taken away when the mailbox has moved.",
    retry: error.retry,
    cause: error,
    ...(error.evidence !== null && { evidence: error.evidence }),
  });
}

/** True if Exchange Web Services named the message. Such a message was handed over before the mailbox moved. */
function isFromExchange({ epoch }: Pick<MessageRef, "epoch">): boolean {
  return /^ews(-|$)/.test(epoch);
}

/** Graph's ids of messages that were handed over by Exchange Web Services, by their names there. */
export async function findGraphIds(
  session: GraphSession,
  messages: readonly MessageRef[],
  signal: AbortSignal,
): Promise<Map<string, string>> {
  const keys = messages.filter(isFromExchange).flatMap(({ key }) => key ?? []);
  if (keys.length === 0) return new Map();
  const others = new Map(keys.map((key) => [key, toRestId(key)]));
  try {
    const exact = await translateIds(session, keys, { from: "ewsId", to: "restImmutableEntryId" }, signal);
    return new Map([...others, ...exact]);
  } catch (error) {
    // Without the permission to ask, the other way of writing leads to the message too, as long as nobody moves it.
    if (error instanceof Problem && error.code === "access") return others;
    throw error;
  }
}
