/** /search: an address, a Message-ID, a word of a subject, a delivery id, or a host. */
import type { Delivery } from "../../../shared/contract/delivery.ts";
import type { Sending } from "../../../shared/contract/sending.ts";
import type { Page } from "../../../shared/store/store.ts";
import type { Fact } from "../../../shared/telemetry/events.ts";
import { clock } from "../../../shared/time.ts";
import type { Route } from "../../http/route.ts";
import { type Gap, type LeftOut, type MailboxAnswer, searchBody } from "../../pages/console/search.ts";
import {
  endpointHost,
  readProofs,
  serverHost,
  showMailbox,
  type ShownMailbox,
} from "../../pages/console/shown-mailbox.ts";
import type { ScopedDeps } from "../../scoped-deps.ts";
import { searchDeliveries } from "../../http/delivery-search.ts";
import { addressesOf } from "./deliveries.ts";
import { showDeliveries } from "./paused.ts";
import { readLetter } from "./letters.ts";
import { measureRows } from "./measured/rows.ts";
import { type ConsoleCall, type ConsoleDeps, page } from "./page.ts";
import { scanMailboxes } from "./scan.ts";
import { includesText } from "../../bulk/filters.ts";

const LONGEST_QUERY = 320;
const MAX_FOUND = 10;
/** Of the stored messages that wait or are parked, so many are read, for so long. */
const MAX_LETTERS = 300;
const LETTERS_MS = 2_000;
/** To read a header the whole message is decrypted, so large ones are left out. */
const MAX_LETTER_BYTES = 5_000_000;
/** As many mailboxes are asked for their filtered and their sent messages. */
const MAX_ASKED = 100;
const MAX_FACTS = 200;

export function searchRoutes(deps: ConsoleDeps): Route[] {
  return [page(deps, "/search", search)];
}

async function search(call: ConsoleCall): Promise<Response> {
  const q = (call.query.get("q") ?? "").trim().slice(0, LONGEST_QUERY);
  const { deps, base } = call;
  const isHidden = deps.config.CONSOLE_BODIES === "off";
  const [mailboxes, byId, recorded] = await Promise.all([
    findMailboxes(deps, q),
    q === "" ? undefined : deps.store.deliveries.get(q),
    q === "" || isHidden ? NO_PAGE : searchDeliveries(deps.store.deliveries, { text: q, limit: MAX_FOUND }),
  ]);
  const letters = await findLetters(deps, q, recorded.items);
  const isFound = byId !== undefined || recorded.items.length > 0 || letters.found.length > 0;
  const elsewhere = isFound ? NOWHERE : await findElsewhere(deps, q);
  const similar = await measureRows(deps, mailboxes.similar);
  const [delivery] = await showDeliveries(deps, byId ? [byId] : []);
  const messages = await showDeliveries(deps, [...recorded.items, ...letters.found]);
  const addresses = await addressesOf(deps, messages);
  const { KEEP_SUBJECTS, WINDOW_DAYS: days } = deps.config;
  const read = { ...letters.read, hasRecords: KEEP_SUBJECTS === "on", next: recorded.next, days };
  const found = { isHidden, ...mailboxes, similar, ...elsewhere, delivery, messages, addresses, read };
  return call.render({ title: "Search", body: searchBody({ base, q, ...found }) });
}

const NO_PAGE: Page<Delivery> = { items: [], next: null, total: 0 };

async function findMailboxes(
  deps: ScopedDeps,
  q: string,
): Promise<{ exact: MailboxAnswer[]; similar: ShownMailbox[] }> {
  if (q === "") return { exact: [], similar: [] };
  const [byId, byAddress] = await Promise.all([
    deps.store.mailboxes.get(q),
    deps.store.mailboxes.list({ address: q, limit: MAX_FOUND }),
  ]);
  const proofs = await readProofs(deps);
  const exact = [...(byId ? [byId] : []), ...byAddress.items].map((item) => showMailbox(item, proofs));
  if (exact.length > 0) return { exact: await Promise.all(exact.map((item) => answerFor(deps, item))), similar: [] };
  const similar: ShownMailbox[] = [];
  for await (const one of scanMailboxes(deps, {})) {
    const { mailbox } = one;
    const texts = [mailbox.address, mailbox.name, mailbox.id, serverHost(mailbox), endpointHost(mailbox.deliver.url)];
    if (includesText(texts, q)) similar.push(one);
    if (similar.length === MAX_FOUND) break;
  }
  return { exact: [], similar };
}

async function answerFor(deps: ScopedDeps, item: ShownMailbox): Promise<MailboxAnswer> {
  const { store } = deps;
  const { id } = item.mailbox;
  const [facts, newest] = await Promise.all([
    store.facts.recent(id, MAX_FACTS),
    store.deliveries.list({ mailbox: id, limit: MAX_FOUND }),
  ]);
  return { item, gaps: findGaps(facts), newest: await showDeliveries(deps, newest.items) };
}

const LISTENING: ReadonlySet<string> = new Set(["listening", "polling", "syncing"]);

/** The times between a status in which nobody listens and the next in which somebody does, the newest first. */
function findGaps(facts: readonly Fact[]): Gap[] {
  const gaps: Gap[] = [];
  let open: Gap | undefined;
  for (const fact of facts.toReversed()) {
    if (fact.kind !== "mailbox.status") continue;
    if (LISTENING.has(fact.status)) {
      if (open) open.to = fact.at;
      open = undefined;
    } else if (!open) {
      open = { from: fact.at, to: null, why: fact.failure?.cause ?? fact.status.replace("_", " ") };
      gaps.push(open);
    }
  }
  return gaps.toReversed().slice(0, MAX_FOUND);
}

type Letters = { found: Delivery[]; read: { count: number; isWhole: boolean } };

/** Reads the headers of stored messages, the newest first, until there are enough or the time is over. */
async function findLetters({ store, config }: ScopedDeps, q: string, known: readonly Delivery[]): Promise<Letters> {
  if (q === "" || config.CONSOLE_BODIES === "off") return { found: [], read: { count: 0, isWhole: true } };
  const until = clock.monotonic() + LETTERS_MS;
  const pages = await Promise.all(
    (["parked", "retrying"] as const).map((state) => store.deliveries.list({ state, limit: MAX_LETTERS })),
  );
  const stored: Delivery[] = pages
    .flatMap(({ items }) => items)
    .toSorted((a, b) => (a.createdAt < b.createdAt ? 1 : -1));
  const knownIds = new Set(known.map(({ id }) => id));
  const found: Delivery[] = [];
  let count = 0;
  for (const delivery of stored.slice(0, MAX_LETTERS)) {
    if (found.length === MAX_FOUND || clock.monotonic() > until) break;
    if (delivery.ref.size > MAX_LETTER_BYTES) continue;
    const letter = await readLetter(store, delivery);
    count += 1;
    if (!letter) continue;
    const { subject, from, to, messageId } = letter;
    if (knownIds.has(delivery.id) || !includesText([subject ?? "", from, to, messageId ?? ""], q)) continue;
    found.push({ ...delivery, message: { subject, from, messageId } });
  }
  return { found, read: { count, isWhole: count === pages.reduce((sum, { total }) => sum + total, 0) } };
}

type Elsewhere = { sendings: Sending[]; leftOut: LeftOut[] };
const NOWHERE: Elsewhere = { sendings: [], leftOut: [] };

/** A sending by its id, and what has this Message-ID: sent messages, and messages that a filter left out. */
async function findElsewhere(deps: ScopedDeps, q: string): Promise<Elsewhere> {
  const { outbox, facts } = deps.store;
  const sending = q.startsWith("snd_") ? await outbox.get(q) : undefined;
  if (sending || !/^<?[^\s<>@]+@[^\s<>]+>?$/.test(q)) return { ...NOWHERE, sendings: sending ? [sending] : [] };
  const messageId = `<${q.replace(/^<|>$/g, "")}>`;
  const found: Elsewhere = { sendings: [], leftOut: [] };
  let asked = 0;
  for await (const { mailbox } of scanMailboxes(deps, {}, { pageSize: MAX_ASKED })) {
    if (asked++ === MAX_ASKED) break;
    const sent = mailbox.send && (await outbox.findByMessageId(mailbox.id, messageId));
    if (sent) found.sendings.push(sent);
    for (const fact of mailbox.receive.filters ? await facts.recent(mailbox.id, MAX_FACTS) : []) {
      if (fact.kind !== "mail.filtered" || fact.messageId !== messageId) continue;
      const { at, folder, rule } = fact;
      found.leftOut.push({ mailbox: mailbox.id, address: mailbox.address, at, folder, rule });
    }
  }
  return found;
}
