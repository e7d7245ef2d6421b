/** One run: mail flows into all mailboxes while one thing after the other goes wrong, in an order that the seed decides. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Book, openBook, type Result } from "./book.ts";
import { type Fault, kindsOf } from "./faults.ts";
import { type Random, randomFrom } from "./random.ts";
import { openSendings, type Sendings, type SendingsResult } from "./sendings.ts";
import { startWorld, type World, type WorldOptions } from "./world.ts";

export type ChaosOptions = WorldOptions & { seed: number; seconds: number; say: (line: string) => void };

/** How long after its end all mail sent until then had arrived; null when that took too long to be waited for. */
export type Recovery = { fault: string; recoveredMs: number | null };
export type Outcome = {
  result: Result;
  sendings: SendingsResult;
  /** Why each parked task was given up. */
  parkedTasks: string[];
  recoveries: Recovery[];
  log: string;
};

const MAIL_EVERY_MS = 100;
const SEND_EVERY_MS = 300;
/** The next fault does not wait longer than this for the last one to be forgotten. */
const PATIENCE_MS = 60_000;
const LAST_PATIENCE_MS = 240_000;

/** Undefined when a server is missing. */
export async function chaos(options: ChaosOptions): Promise<Outcome | undefined> {
  const world = await startWorld(options);
  if (!world) return undefined;
  try {
    return await run(world, options);
  } finally {
    await world.end();
  }
}

async function run(world: World, { seed, seconds, say }: ChaosOptions): Promise<Outcome> {
  const random = randomFrom(seed);
  const book = openBook(world);
  const sendings = openSendings(world, randomFrom(seed + 1));
  const over = new AbortController();
  const flow = Promise.all([flowing(world, book, over.signal), sending(sendings, over.signal)]);
  const end = performance.now() + seconds * 1000;
  const recoveries: Recovery[] = [];
  try {
    for (const fault of faults(world, random)) {
      await sleep(random.whole(500, 2_000));
      say(`${fault.name} ...`);
      await fault.happen();
      const recoveredMs = await recovered(book, book.sent, PATIENCE_MS);
      recoveries.push({ fault: fault.name, recoveredMs });
      say(`${fault.name}: recovered after ${recoveredMs ?? "more than a minute"}${recoveredMs === null ? "" : " ms"}`);
      if (performance.now() >= end) break;
    }
  } finally {
    over.abort();
    await flow;
  }
  await recovered(book, book.sent, LAST_PATIENCE_MS);
  await finished(sendings);
  const asked = world.apis[0]!.service;
  const parked = await asked.call("GET", "/api/v1/deliveries?state=parked&limit=1");
  const parkedTasks = await asked.call("GET", "/api/v1/tasks/parked?limit=20");
  const log = [...world.apis, ...world.workers]
    .map(({ name, service }) => `== ${name}\n${service.output.slice(-20_000)}`)
    .join("\n");
  return {
    result: book.result(Number(parked.body.total)),
    sendings: sendings.result(),
    parkedTasks: parkedTasks.body.items.map(({ reason }: { reason: unknown }) => String(reason)),
    recoveries,
    log,
  };
}

/** All kinds in random order, again and again. */
function* faults(world: World, random: Random): Generator<Fault> {
  for (;;) {
    const left = kindsOf(world);
    while (left.length > 0) {
      const [kind] = left.splice(random.whole(0, left.length - 1), 1);
      if (kind) yield kind(world, random);
    }
  }
}

async function flowing({ mailboxes }: World, book: Book, signal: AbortSignal): Promise<void> {
  for (let n = 0; !signal.aborted; n++) {
    await book.send(mailboxes[n % mailboxes.length]!);
    await sleep(MAIL_EVERY_MS);
  }
}

/** Requests to send, whose answers are not waited for one by one; resolves when all of them were accepted. */
async function sending(sendings: Sendings, signal: AbortSignal): Promise<void> {
  const asked: Promise<void>[] = [];
  while (!signal.aborted) {
    asked.push(sendings.send());
    await sleep(SEND_EVERY_MS);
  }
  await Promise.all(asked);
}

/** Resolves when every accepted message has its end, and the endpoint heard of it, or when that took too long. */
async function finished(sendings: Sendings): Promise<void> {
  const began = performance.now();
  while (performance.now() - began < LAST_PATIENCE_MS) {
    if ((await sendings.pending()) === 0 && sendings.result().unreported.length === 0) return;
    await sleep(200);
  }
}

async function recovered(book: Book, count: number, patienceMs: number): Promise<number | null> {
  const began = performance.now();
  while (book.missing(count) > 0) {
    if (performance.now() - began > patienceMs) return null;
    await sleep(50);
  }
  return Math.round(performance.now() - began);
}
