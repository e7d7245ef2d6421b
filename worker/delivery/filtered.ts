/** Messages that the mailbox's filters leave out: marked as done, counted, and reported with the rule. */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import type { FetchedMessage, MessageRef } from "../../shared/contract/message.ts";
import type { ParsedMessage } from "../../shared/contract/received.ts";
import { parseHeadersOnly } from "../../shared/mail/mime/message.ts";
import type { Ledger } from "../../shared/store/store.ts";
import type { Emit } from "../../shared/telemetry/events.ts";
import { findExcludingRule } from "./filters.ts";
import type { ReaderPool } from "../mail/reader-pool.ts";

type FilterDeps = {
  store: { ledger: Pick<Ledger, "markDone"> };
  readers: ReaderPool;
  emit: Emit;
  parse: (raw: Uint8Array, limits: { maxAttachmentBytes: number }, signal: AbortSignal) => Promise<ParsedMessage>;
};

type FilteredMessage = { ref: MessageRef; rule: string; messageId: string | null };

/** Applies the filters that need no download (folder, size, age). Returns the other messages. */
export async function filterBeforeDownload(
  deps: FilterDeps,
  mailbox: Mailbox,
  refs: MessageRef[],
  signal: AbortSignal,
): Promise<MessageRef[]> {
  if (!mailbox.receive.filters) return refs;
  const filtered = refs.flatMap((ref): FilteredMessage[] => {
    const rule = findExcludingRule(mailbox.receive, { ref });
    return rule === undefined ? [] : [{ ref, rule, messageId: null }];
  });
  if (filtered.length === 0) return refs;
  const ids = await fetchMessageIds(
    deps,
    mailbox,
    filtered.map(({ ref }) => ref),
    signal,
  );
  await settleFiltered(
    deps,
    mailbox,
    filtered.map((one) => ({ ...one, messageId: ids.get(one.ref.uid) ?? null })),
  );
  const filteredRefs = new Set(filtered.map(({ ref }) => ref));
  return refs.filter((ref) => !filteredRefs.has(ref));
}

/** True if the filters leave the downloaded message out. */
export async function filterAfterDownload(
  deps: FilterDeps,
  mailbox: Mailbox,
  { ref, raw }: FetchedMessage,
  signal: AbortSignal,
): Promise<boolean> {
  if (!mailbox.receive.filters) return false;
  const parsed = await deps.parse(raw, { maxAttachmentBytes: 0 }, signal);
  // The real size may differ from the one that the server reported.
  const rule = findExcludingRule(mailbox.receive, { ref: { ...ref, size: raw.byteLength }, parsed });
  if (rule !== undefined) await settleFiltered(deps, mailbox, [{ ref, rule, messageId: parsed.messageId }]);
  return rule !== undefined;
}

/** The content of a filtered message is not remembered, so a resync with other filters delivers it. */
async function settleFiltered(
  { store, emit }: FilterDeps,
  { id }: Mailbox,
  filtered: FilteredMessage[],
): Promise<void> {
  await store.ledger.markDone(
    id,
    filtered.map(({ ref }) => ref),
  );
  for (const { ref, rule, messageId } of filtered) {
    const { folder, uid, size: bytes, receivedAt } = ref;
    emit({ kind: "mail.filtered", mailbox: id, folder, uid, bytes, receivedAt, messageId, rule });
  }
}

/**
 * Fetches the headers if the protocol can do that without the message, so that a person can tell which message was left
 * out.
 */
async function fetchMessageIds(deps: FilterDeps, mailbox: Mailbox, refs: MessageRef[], signal: AbortSignal) {
  const ids = new Map<number, string | null>();
  await deps.readers.use(
    mailbox,
    0,
    async (connection) => {
      for await (const { ref, head } of connection.fetchHeaders?.(refs, signal) ?? []) {
        ids.set(ref.uid, parseHeadersOnly(head, "").messageId);
      }
    },
    signal,
  );
  return ids;
}
