/** What is fuzzed, and how many of the cases each target gets. */
import * as fc from "fast-check";
import { startBodies } from "./bodies.ts";
import {
  type Dialogue,
  ewsDialogue,
  imapDialogue,
  planNoise,
  playDialogue,
  pop3Dialogue,
  smtpDialogue,
} from "./dialogues.ts";
import { isNeverNothing, keepsContent } from "./letters.ts";
import { findsAddresses, readsValues } from "./values.ts";

/** `replay` is the place of one failed case, as a failure names it. */
export type Order = { cases: number; seed: number; replay?: string | undefined };
/** How many cases ran, and what failed, with how to run it again. */
export type Outcome = { cases: number; failure?: string };
export type Target = { name: string; share: number; run(order: Order): Promise<Outcome> };

/** Dialogues that are played at the same time. */
const AT_ONCE = 24;

async function check<T>(name: string, property: fc.IRawProperty<T>, { cases, seed, replay }: Order): Promise<Outcome> {
  const path = replay === undefined ? {} : { path: replay, endOnFailure: true };
  const result = await fc.check(property, { numRuns: cases, seed, ...path });
  if (!result.failed) return { cases: result.numRuns };
  const again = `bun run fuzz --only ${name} --seed ${seed} --replay ${result.counterexamplePath}`;
  const failure = `${String(result.errorInstance)}\n${fc.stringify(result.counterexample)}\nAgain: ${again}`;
  return { cases: result.numRuns, failure };
}

async function play(name: string, start: () => Promise<Dialogue>, { cases, seed, replay }: Order): Promise<Outcome> {
  const dialogue = await start();
  try {
    const plans = planNoise(dialogue, cases, seed);
    const chosen = replay === undefined ? [...plans.keys()] : [Number(replay)];
    const failures: string[] = [];
    let next = 0;
    const playSome = async () => {
      for (let at = chosen[next++]; at !== undefined && failures.length === 0; at = chosen[next++]) {
        const plan = plans[at] ?? [];
        await playDialogue(dialogue, plan).catch((error: unknown) => {
          const again = `bun run fuzz --only ${name} --cases ${cases} --seed ${seed} --replay ${at}`;
          failures.push(`${String(error)}\n${JSON.stringify(plan)}\nAgain: ${again}`);
        });
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, playSome));
    const [failure] = failures;
    return { cases: Math.min(next, chosen.length), ...(failure !== undefined && { failure }) };
  } finally {
    await dialogue.stop();
  }
}

async function ask(name: "api" | "crm", order: Order): Promise<Outcome> {
  const bodies = await startBodies();
  try {
    return await check(name, bodies[name], order);
  } finally {
    await bodies.stop();
  }
}

export const TARGETS: Target[] = [
  { name: "letters", share: 0.3, run: (order) => check("letters", keepsContent, order) },
  { name: "damaged", share: 0.3, run: (order) => check("damaged", isNeverNothing, order) },
  { name: "values", share: 0.1, run: (order) => check("values", readsValues, order) },
  { name: "addresses", share: 0.1, run: (order) => check("addresses", findsAddresses, order) },
  { name: "api", share: 0.06, run: (order) => ask("api", order) },
  { name: "crm", share: 0.04, run: (order) => ask("crm", order) },
  { name: "imap", share: 0.02, run: (order) => play("imap", imapDialogue, order) },
  { name: "pop3", share: 0.04, run: (order) => play("pop3", pop3Dialogue, order) },
  { name: "smtp", share: 0.02, run: (order) => play("smtp", smtpDialogue, order) },
  { name: "ews", share: 0.02, run: (order) => play("ews", ewsDialogue, order) },
];
