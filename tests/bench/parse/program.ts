/** Reads messages with the product and with mailparser in turn, in a process of its own. An order is a kind of message; a line answers it. */
import { createInterface } from "node:readline";
import { simpleParser } from "mailparser";
import { parseMessage } from "../../../shared/mail/mime/message.ts";
import { type Kind, largestOdd, letters } from "./letters.ts";

/** Milliseconds of CPU per 1,000 messages. */
export type ParseAnswer = { ours: number; peer: number };
/** The odd message that took longest, in milliseconds: the least of several rounds. */
export type WorstAnswer = { name: string; ms: number };

const ROUNDS = 12;
const WORST_ROUNDS = 3;
const LIMITS = { maxAttachmentBytes: 25 * 1024 * 1024 };
const PEER_OPTIONS = { skipHtmlToText: true, skipTextToHtml: true, skipImageLinks: true };

async function measureCpu(raws: Buffer[], read: (raw: Buffer) => Promise<unknown>): Promise<number> {
  const before = process.cpuUsage();
  for (const raw of raws) await read(raw);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / raws.length;
}

/** The least of several rounds, in which both take turns. */
async function compare(kind: Kind): Promise<ParseAnswer> {
  const raws = letters[kind]();
  const best = { ours: Number.POSITIVE_INFINITY, peer: Number.POSITIVE_INFINITY };
  for (let round = 0; round < ROUNDS; round++) {
    best.ours = Math.min(best.ours, await measureCpu(raws, (raw) => parseMessage(raw, LIMITS)));
    best.peer = Math.min(best.peer, await measureCpu(raws, (raw) => simpleParser(raw, PEER_OPTIONS)));
  }
  return best;
}

async function findWorst(): Promise<WorstAnswer> {
  let worst: WorstAnswer = { name: "", ms: 0 };
  for (const { name, raw } of largestOdd()) {
    let ms = Number.POSITIVE_INFINITY;
    for (let round = 0; round < WORST_ROUNDS; round++) {
      const began = performance.now();
      await parseMessage(raw, LIMITS);
      ms = Math.min(ms, performance.now() - began);
    }
    if (ms > worst.ms) worst = { name, ms };
  }
  return worst;
}

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line) as Kind | "worst";
  console.log(JSON.stringify(order === "worst" ? await findWorst() : await compare(order)));
}
