/** Messages that the mailbox's filters leave out: settled, counted, and said with the rule that did it. */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import type { FetchedMessage, MessageRef } from "../../shared/contract/message.ts";
import type { ParsedMessage } from "../../shared/contract/received.ts";
import { headersOnly } from "../../shared/mail/mime/message.ts";
import type { Ledger } from "../../shared/store/store.ts";
import type { Emit } from "../../shared/telemetry/events.ts";
import { leftOut } from "./filters.ts";
import type { Readers } from "../mail/reader-pool.ts";

type Deps = {
  store: { ledger: Pick<Ledger, "settle"> };
  readers: Readers;
  emit: Emit;
  parse: (raw: Uint8Array, limits: { maxAttachmentBytes: number }, signal: AbortSignal) => Promise<ParsedMessage>;
};

type Out = { ref: MessageRef; rule: string; messageId: string | null };

/** Leaves out what needs no download to be judged, by folder, size or age; returns the others. */
export async function filteredBefore(
  deps: Deps,
  mailbox: Mailbox,
  refs: MessageRef[],
  signal: AbortSignal,
): Promise<MessageRef[]> {
  if (!mailbox.receive.filters) return refs;
  const out = refs.flatMap((ref): Out[] => {
    const rule = leftOut(mailbox.receive, { ref });
    return rule === undefined ? [] : [{ ref, rule, messageId: null }];
  });
  if (out.length === 0) return refs;
  const ids = await messageIds(
    deps,
    mailbox,
    out.map(({ ref }) => ref),
    signal,
  );
  await leave(
    deps,
    mailbox,
    out.map((one) => ({ ...one, messageId: ids.get(one.ref.uid) ?? null })),
  );
  const gone = new Set(out.map(({ ref }) => ref));
  return refs.filter((ref) => !gone.has(ref));
}

/** True when the filters leave the downloaded message out. */
export async function filteredAfter(
  deps: Deps,
  mailbox: Mailbox,
  { ref, raw }: FetchedMessage,
  signal: AbortSignal,
): Promise<boolean> {
  if (!mailbox.receive.filters) return false;
  const parsed = await deps.parse(raw, { maxAttachmentBytes: 0 }, signal);
  const rule = leftOut(mailbox.receive, { ref, parsed });
  if (rule !== undefined) await leave(deps, mailbox, [{ ref, rule, messageId: parsed.messageId }]);
  return rule !== undefined;
}

/** Filtered messages are not remembered by their content: with other filters a resync delivers them. */
async function leave({ store, emit }: Deps, { id }: Mailbox, out: Out[]): Promise<void> {
  await store.ledger.settle(
    id,
    out.map(({ ref }) => ref),
  );
  for (const { ref, rule, messageId } of out) {
    const { folder, uid, size: bytes, receivedAt } = ref;
    emit({ kind: "mail.filtered", mailbox: id, folder, uid, bytes, receivedAt, messageId, rule });
  }
}

/** Where headers can be had without their messages, so that a person can tell which one was left out. */
async function messageIds(deps: Deps, mailbox: Mailbox, refs: MessageRef[], signal: AbortSignal) {
  const ids = new Map<number, string | null>();
  await deps.readers.use(
    mailbox,
    0,
    async (connection) => {
      for await (const { ref, head } of connection.heads?.(refs, signal) ?? []) {
        ids.set(ref.uid, headersOnly(head, "").messageId);
      }
    },
    signal,
  );
  return ids;
}
