/** What the pages say of endpoints to which a person has paused the deliveries. */
import type { Delivery } from "../../../shared/contract/delivery.ts";
import { type EndpointPause, findPause, heldReason } from "../../../shared/store/endpoint-pauses.ts";
import { endpointHost } from "../../pages/console/shown-mailbox.ts";
import type { Cause } from "../../pages/console/now.ts";
import { queryOf } from "../../pages/console/parts.ts";
import { countOf } from "../../pages/console/words.ts";
import type { ScopedDeps } from "../../scoped-deps.ts";

/** Of so many pauses the waiting messages are counted, up to so many for each. */
const COUNTED_PAUSES = 20;
const MAX_COUNTED = 1_000;

/** How many messages wait for each paused endpoint, by the pause's key. */
export type HeldCounts = ReadonlyMap<string, { count: number; isWhole: boolean }>;

const keyOf = ({ url, mailboxPrefix }: EndpointPause) => JSON.stringify([url, mailboxPrefix]);

export async function countHeld(deps: ScopedDeps): Promise<HeldCounts> {
  const pauses = (await deps.listPauses()).slice(0, COUNTED_PAUSES);
  const counts = await Promise.all(
    pauses.map(async (pause) => {
      const waiting = await listWaiting(deps, new URL(pause.url).origin);
      const found = await findPauses(deps, waiting, [pause]);
      return [keyOf(pause), { count: found.size, isWhole: waiting.length < MAX_COUNTED }] as const;
    }),
  );
  return new Map(counts);
}

/** A token with a prefix has no list by endpoint, so its newest waiting deliveries are looked at. */
async function listWaiting({ store, mailboxPrefix }: ScopedDeps, endpoint: string): Promise<Delivery[]> {
  if (mailboxPrefix === "") return store.deliveries.listRetrying({ endpoint, limit: MAX_COUNTED });
  const { items } = await store.deliveries.list({ state: "retrying", limit: MAX_COUNTED });
  return items.filter((one) => one.endpoint === endpoint);
}

/** The pause that holds each of these deliveries, by their ids. A delivery knows the origin alone, its mailbox the URL. */
async function findPauses(
  { store }: Pick<ScopedDeps, "store">,
  deliveries: readonly Delivery[],
  pauses: readonly EndpointPause[],
): Promise<Map<string, EndpointPause>> {
  const waiting = pauses.length === 0 ? [] : deliveries.filter(({ state }) => state === "retrying");
  const ids = [...new Set(waiting.map(({ mailbox }) => mailbox))];
  const read = await Promise.all(ids.map((id) => store.mailboxes.get(id)));
  const byMailbox = new Map(ids.map((id, n) => [id, read[n] && findPause(pauses, read[n].mailbox)]));
  return new Map(
    waiting.flatMap(({ id, mailbox }) => {
      const pause = byMailbox.get(mailbox);
      return pause ? [[id, pause] as const] : [];
    }),
  );
}

/** One row for each pause that the caller sees: it ends only when somebody resumes. */
export function pauseCauses(pauses: readonly EndpointPause[], held: HeldCounts, prefix: string): Cause[] {
  return pauses.map((pause): Cause => {
    const { url, mailboxPrefix, at, by } = pause;
    const { count = 0, isWhole = true } = held.get(keyOf(pause)) ?? {};
    const whose = mailboxPrefix === "" ? "" : ` of the mailboxes whose ids begin with ${mailboxPrefix}`;
    const amount = `${isWhole ? "" : "At least "}${countOf(count, "message waits", "messages wait")}`;
    return {
      tone: "off",
      what: "Paused deliveries",
      where: endpointHost(url),
      since: at,
      cause: `${by} paused the deliveries${whose} to ${url}. ${amount} for it, without an attempt.`,
      fix: "Resume when the endpoint is ready. Then the messages go out at once.",
      path: `/endpoints/one${queryOf({ url })}`,
      link: "Open the endpoint",
      ...(mailboxPrefix === prefix && {
        action: { path: "/endpoints/resume", label: "Resume", fields: { url, back: "now" } },
      }),
    };
  });
}

/** The pause that holds this delivery now. */
export async function pauseOf(deps: ScopedDeps, delivery: Delivery): Promise<EndpointPause | undefined> {
  return (await findPauses(deps, [delivery], await deps.listPauses())).get(delivery.id);
}

/**
 * The deliveries as pages show them: those that wait for a paused endpoint say so, also before their next attempt was
 * due, and nothing is known of messages that the console must not show.
 */
export async function showDeliveries(deps: ScopedDeps, deliveries: readonly Delivery[]): Promise<Delivery[]> {
  const held = await findPauses(deps, deliveries, await deps.listPauses());
  return deliveries.map((one) => {
    const { message, ...bare } = held.has(one.id) ? { ...one, reason: heldReason(one) } : one;
    return message === undefined || deps.config.CONSOLE_BODIES === "off" ? bare : { ...bare, message };
  });
}
