/** One run: mail flows into all mailboxes while one thing after the other goes wrong, in an order that the seed decides. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Book, openBook, type Result } from "./book.ts";
import { type Fault, KINDS } from "./faults.ts";
import { type Random, randomFrom } from "./random.ts";
import { startWorld, type World } from "./world.ts";

export type ChaosOptions = { seed: number; seconds: number; mailboxes: number; say: (line: string) => void };

/** How long after its end all mail sent until then had arrived; null when that took too long to be waited for. */
export type Recovery = { fault: string; recoveredMs: number | null };
export type Outcome = { result: Result; recoveries: Recovery[]; log: string };

const MAIL_EVERY_MS = 100;
/** The next fault does not wait longer than this for the last one to be forgotten. */
const PATIENCE_MS = 60_000;
const LAST_PATIENCE_MS = 240_000;

/** Undefined when a server is missing. */
export async function chaos(options: ChaosOptions): Promise<Outcome | undefined> {
  const world = await startWorld(options.mailboxes);
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
  const over = new AbortController();
  const flow = flowing(world, book, over.signal);
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
  const parked = await world.apis[0]!.service.call("GET", "/api/v1/deliveries?state=parked&limit=1");
  const log = [...world.apis, ...world.workers]
    .map(({ name, service }) => `== ${name}\n${service.output.slice(-20_000)}`)
    .join("\n");
  return { result: book.result(Number(parked.body.total)), recoveries, log };
}

/** All kinds in random order, again and again. */
function* faults(world: World, random: Random): Generator<Fault> {
  for (;;) {
    const left = [...KINDS];
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

async function recovered(book: Book, count: number, patienceMs: number): Promise<number | null> {
  const began = performance.now();
  while (book.missing(count) > 0) {
    if (performance.now() - began > patienceMs) return null;
    await sleep(50);
  }
  return Math.round(performance.now() - began);
}
