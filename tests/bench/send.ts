/**
 * How many messages leave per second and what each costs: the service, asked over HTTP and durable at every step, beside
 * nodemailer's own pool, both into one SMTP server in a third process's place, this one.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { type SmtpScript, startSmtpScript } from "../servers/smtp-script.ts";
import { type Service, startService } from "../service.ts";
import type { SendOrder } from "./bare-send.ts";
import { cpuSeconds } from "./measured.ts";
import { command, file, inParallel } from "./rivals.ts";
import { type Bench, ratio, type Row, shown } from "./report.ts";

type Result = { perSecond: number; cpu: number };

/** Connections to one server: what the service takes for one mailbox. */
const CONNECTIONS = 2;
const REQUESTS_AT_ONCE = 32;
const WARM_UP = 200;
const LONGEST_MS = 300_000;

/** As many messages as a burst has, from one mailbox. */
export async function sending({ sizes, runtime }: Bench): Promise<Row[]> {
  const smtp = await startSmtpScript();
  try {
    const ours = await byService(smtp, runtime, sizes);
    const bare = await byPool(smtp, runtime, sizes);
    const name = `${sizes.burst} sent of ${sizes.bytes} bytes`;
    return [
      {
        what: `${name}, per second`,
        ours: shown(ours.perSecond),
        bare: shown(bare.perSecond),
        compared: ratio(ours.perSecond, bare.perSecond),
      },
      {
        what: `${name}, CPU per 1,000`,
        ours: shown(ours.cpu, "s"),
        bare: shown(bare.cpu, "s"),
        compared: ratio(ours.cpu, bare.cpu),
      },
    ];
  } finally {
    await smtp.stop();
  }
}

type Sizes = Bench["sizes"];

async function byService(smtp: SmtpScript, runtime: Bench["runtime"], sizes: Sizes): Promise<Result> {
  const service = await startService({}, command(runtime));
  try {
    const id = await registered(service, smtp.port);
    const text = "A line of the message.\r\n".repeat(sizes.bytes / 24);
    const send = async (n: number) => {
      const body = { to: ["bob@example.net"], subject: `bench-${n}-`, text };
      const answer = await service.call("POST", `/api/v1/mailboxes/${id}/messages`, body);
      if (answer.status !== 202) throw new Error(JSON.stringify(answer.body));
    };
    return await timed(service.pid, smtp, sizes.burst, (count) =>
      inParallel(
        Array.from({ length: count }, (_, n) => n),
        REQUESTS_AT_ONCE,
        send,
      ),
    );
  } finally {
    await service.end();
  }
}

async function registered(service: Service, port: number): Promise<string> {
  const body = {
    address: "bench@example.com",
    // Nobody listens there: only sending is measured.
    receive: { protocol: "imap", host: "127.0.0.1", port: 1, tls: "none", auth: { user: "bench", password: "bench" } },
    send: { host: "127.0.0.1", port, tls: "none", perHour: 100_000, saveSent: "never" },
    deliver: { url: "http://127.0.0.1:1/" },
  };
  const answer = await service.call("POST", "/api/v1/mailboxes", body);
  await service.call("POST", `/api/v1/mailboxes/${answer.body.id}/pause`);
  return answer.body.id;
}

async function byPool(smtp: SmtpScript, runtime: Bench["runtime"], sizes: Sizes): Promise<Result> {
  const [program, ...args] = command(runtime);
  const child = spawn(program, [...args, file("./bare-send.ts")], { stdio: ["pipe", "pipe", "inherit"] });
  const answers = createInterface({ input: child.stdout });
  try {
    return await timed(child.pid ?? 0, smtp, sizes.burst, async (count) => {
      const order: SendOrder = { port: smtp.port, count, bytes: sizes.bytes, connections: CONNECTIONS };
      const done = once(answers, "line", { signal: AbortSignal.timeout(LONGEST_MS) });
      child.stdin.write(`${JSON.stringify(order)}\n`);
      await done;
    });
  } finally {
    child.kill("SIGKILL");
  }
}

/** From the first order to the last message taken; the first messages of a process pay for compiling its code. */
async function timed(
  pid: number,
  smtp: SmtpScript,
  count: number,
  send: (count: number) => Promise<unknown>,
): Promise<Result> {
  await send(WARM_UP);
  await smtp.waitFor(smtp.taken.length, LONGEST_MS);
  const already = smtp.taken.length;
  const before = await cpuSeconds(pid);
  const began = performance.now();
  await send(count);
  await smtp.waitFor(already + count, LONGEST_MS);
  const ms = performance.now() - began;
  return { perSecond: (count * 1000) / ms, cpu: (((await cpuSeconds(pid)) - before) * 1000) / count };
}
