/**
 * Mails of 50 MB with a file inside: the most memory that the service needs for one beyond what it needs without, for
 * how long its event loop is blocked, and what it keeps after many.
 */
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { startService } from "../service.ts";
import { message } from "../servers/mail.ts";
import { settledMemory } from "./measured.ts";
import { type Bench, ratio, type Row, shown } from "./report.ts";
import { asRival, byImap, command } from "./rivals.ts";

const MIB = 1024 * 1024;
const FILE_BYTES = 36_000_000;
const MAX_FACTOR = 3;
const MAX_BLOCKED_MS = 50;
const MANY = 20;
const WRITTEN_MS = 500;
const ARRIVE_MS = 300_000;

export async function big({ mail, users, runtime }: Bench): Promise<Row[]> {
  const [user = ""] = users(1);
  const folder = await mkdtemp(join(tmpdir(), "email-listener-bench-"));
  const blocked = join(folder, "blocked");
  const service = await startService({ BENCH_BLOCKED: blocked }, command(runtime));
  const deliver = { maxAttachmentBytes: 60_000_000 };
  const rival = await asRival("service", [service], byImap(mail), deliver);
  const { sink } = rival;
  let count = 0;
  const deliverMails = async (more: number) => {
    for (let n = 0; n < more; n++) {
      await mail.server.appendMany(user, "INBOX", [bigMail(count)]);
      count += 1;
      await sink.all(count, ARRIVE_MS);
    }
  };
  try {
    await rival.listen([user]);
    await deliverMails(2);
    const base = await settledMemory(service.pid);
    await writeFile(`/proc/${service.pid}/clear_refs`, "5");
    await deliverMails(1);
    const blockedMs = await longestBlock(service.pid, blocked);
    const peak = await mostMemory(service.pid);
    await deliverMails(MANY);
    const kept = (await settledMemory(service.pid)) - base;
    const bytes = bigMail(0).length / MIB;
    return [
      against(`most memory for one mail of ${bytes.toFixed(0)} MB`, (peak - base) / 1024, MAX_FACTOR * bytes, "MB"),
      against("longest block of the event loop meanwhile", blockedMs, MAX_BLOCKED_MS, "ms"),
      against(`memory kept after ${MANY} more`, kept / 1024, bytes, "MB"),
    ];
  } finally {
    await rival.end();
    await rm(folder, { recursive: true });
  }
}

function bigMail(number: number): Buffer {
  const lines =
    randomBytes(57 * 1024)
      .toString("base64")
      .match(/.{76}/g) ?? [];
  const encoded = Buffer.from(`${lines.join("\r\n")}\r\n`);
  const times = Math.ceil(FILE_BYTES / (57 * 1024));
  const small = message({
    subject: `bench-${number}-`,
    messageId: null,
    attachments: [{ filename: "big.bin", type: "application/octet-stream", content: randomBytes(57) }],
  }).toString("latin1");
  const end = small.lastIndexOf("\r\n--");
  const [head, tail] = [small.slice(0, end + 2), small.slice(end + 2)];
  return Buffer.concat([Buffer.from(head), ...Array<Buffer>(times).fill(encoded), Buffer.from(tail)]);
}

/** Kilobytes since the last reset. */
async function mostMemory(pid: number): Promise<number> {
  return Number(/^VmHWM:\s+(\d+)/m.exec(await readFile(`/proc/${pid}/status`, "utf8"))?.[1]);
}

/** Milliseconds, since the memory was measured. */
async function longestBlock(pid: number, path: string): Promise<number> {
  process.kill(pid, "SIGUSR2");
  await sleep(WRITTEN_MS);
  return Number(await readFile(path, "utf8"));
}

function against(what: string, measured: number, goal: number, unit: string): Row {
  return { what, ours: shown(measured, unit), bare: shown(goal, unit), compared: ratio(measured, goal) };
}
