/** Endpoints to which a person has paused the deliveries: one document that all nodes share. */
import * as v from "valibot";
import type { Delivery } from "../contract/delivery.ts";
import { endpointOf } from "../contract/endpoint.ts";
import type { Mailbox } from "../contract/mailbox.ts";
import { Problem } from "../contract/problem.ts";
import { clock } from "../time.ts";
import type { Documents } from "./documents.ts";

/** `url` is without its query; with the path `/` it means the whole origin. `mailboxPrefix`: only deliveries of these. */
const EndpointPause = v.object({ url: v.string(), mailboxPrefix: v.string(), at: v.string(), by: v.string() });
export type EndpointPause = v.InferOutput<typeof EndpointPause>;

const HELD_BY_PERSON = "a person has paused the deliveries to this endpoint";

/** The reason of a delivery that waits because of a pause, with what the endpoint said before. */
export function heldReason({ attempts }: Pick<Delivery, "attempts">): string {
  const refusal = attempts.at(-1)?.problem;
  return refusal ? `${HELD_BY_PERSON}; before that: ${refusal}` : HELD_BY_PERSON;
}

export function isHeld({ reason }: Pick<Delivery, "reason">): boolean {
  return reason?.startsWith(HELD_BY_PERSON) === true;
}

const Pauses = v.object({ pauses: v.array(EndpointPause) });
export const PAUSES_DOCUMENT = "endpoints";
const MAX_PAUSES = 1_000;
const MAX_WRITES = 20;
/** So late a process may notice a pause. It notices the end of one at once. */
const KNOWN_FOR_MS = 1_000;

type Store = { documents: Documents };
type Subject = Pick<Mailbox, "id"> & { deliver: Pick<Mailbox["deliver"], "url"> };

export async function listPauses(store: Store): Promise<EndpointPause[]> {
  return (await readPauses(store)).pauses;
}

/** Adds the pause, unless there is one for the same URL and prefix. Throws `conflict` when there are 1,000. */
export async function addPause(store: Store, pause: EndpointPause): Promise<void> {
  await changePauses(store, (pauses) => {
    if (pauses.some((one) => isSame(one, pause))) return pauses;
    if (pauses.length >= MAX_PAUSES)
      throw new Problem("conflict", `${MAX_PAUSES} endpoints are paused, and no more can be.`, { retry: "never" });
    return [...pauses, pause];
  });
}

/** False if there was none for this URL and prefix. */
export async function removePause(store: Store, which: Pick<EndpointPause, "url" | "mailboxPrefix">): Promise<boolean> {
  let found = false;
  await changePauses(store, (pauses) => {
    found = pauses.some((one) => isSame(one, which));
    return pauses.filter((one) => !isSame(one, which));
  });
  return found;
}

/** The pause that holds the deliveries of this mailbox. */
export function findPause(pauses: readonly EndpointPause[], { id, deliver }: Subject): EndpointPause | undefined {
  if (pauses.length === 0) return undefined;
  const url = endpointOf(deliver.url);
  const origin = endpointOf(new URL(deliver.url).origin);
  return pauses.find((one) => id.startsWith(one.mailboxPrefix) && (one.url === url || one.url === origin));
}

/** Finds the pause of a mailbox's endpoint. While there is none, the document is read once a second at most. */
export function pauseFinder(store: Store): (mailbox: Subject) => Promise<EndpointPause | undefined> {
  let known: { pauses: Promise<EndpointPause[]>; until: number } | undefined;
  const read = () => {
    const pauses = listPauses(store);
    known = { pauses, until: clock.monotonic() + KNOWN_FOR_MS };
    pauses.catch(() => (known = undefined));
    return pauses;
  };
  return async (mailbox) => {
    const isKnown = known !== undefined && clock.monotonic() < known.until;
    const found = findPause(await (isKnown && known ? known.pauses : read()), mailbox);
    return found && isKnown ? findPause(await read(), mailbox) : found;
  };
}

function isSame(one: EndpointPause, other: Pick<EndpointPause, "url" | "mailboxPrefix">): boolean {
  return one.url === other.url && one.mailboxPrefix === other.mailboxPrefix;
}

async function readPauses({ documents }: Store): Promise<{ pauses: EndpointPause[]; revision: number }> {
  const stored = await documents.read(PAUSES_DOCUMENT);
  return { pauses: stored ? v.parse(Pauses, JSON.parse(stored.text)).pauses : [], revision: stored?.revision ?? 0 };
}

async function changePauses(store: Store, next: (pauses: EndpointPause[]) => EndpointPause[]): Promise<void> {
  for (let n = 0; n < MAX_WRITES; n++) {
    const { pauses, revision } = await readPauses(store);
    if (await store.documents.write(PAUSES_DOCUMENT, { revision, text: JSON.stringify({ pauses: next(pauses) }) }))
      return;
  }
  throw new Problem("store", "The list of paused endpoints could not be written: other nodes change it all the time");
}
