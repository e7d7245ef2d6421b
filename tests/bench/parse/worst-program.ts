/** Parses the mail in the file that an order names, encodes it for its endpoint, and says what that took. */
import { readFileSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { createInterface } from "node:readline";
import { setImmediate } from "node:timers/promises";
import { mimeParser } from "../../../shared/mail/mime/parse.ts";
import { bodyParts } from "../../../worker/endpoint/body.ts";
import type { DeliverableMessage } from "../../../worker/endpoint/endpoint.ts";
import { encodeWebhook } from "../../../worker/endpoint/webhook.ts";

/** The most memory of the whole process so far, and the longest time in which nothing else got its turn. */
export type WorstAnswer = { mb: number; blockedMs: number };

const LIMITS = { maxAttachmentBytes: 10_000_000 };
const MAILBOX = {
  id: "bench",
  address: "bench@example.com",
  deliver: { url: "http://localhost/", dialect: "webhook", format: "full" },
} as DeliverableMessage["mailbox"];
const REF = { mailbox: "bench", folder: "INBOX", uid: 1, epoch: "1", receivedAt: "2026-01-05T09:00:00.000Z" };

async function measure(path: string): Promise<WorstAnswer> {
  const raw = readFileSync(path);
  const delay = monitorEventLoopDelay({ resolution: 10 });
  delay.enable();
  const parsed = await mimeParser().parse(raw, LIMITS);
  const ref = REF as unknown as DeliverableMessage["ref"];
  const message: DeliverableMessage = { deliveryId: "bench", mailbox: MAILBOX, ref, flags: [], raw, parsed };
  const { body } = await encodeWebhook(message, new Date());
  for (const _ of bodyParts(body)) await setImmediate();
  delay.disable();
  const kib = Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1]);
  return { mb: kib / 1024, blockedMs: delay.max / 1e6 };
}

for await (const line of createInterface({ input: process.stdin }))
  console.log(JSON.stringify(await measure(JSON.parse(line) as string)));
