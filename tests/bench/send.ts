/**
 * How many messages leave per second and what each costs: the service, asked over HTTP and durable at every step, beside nodemailer's
 * own pool over as many connections. Who asks and who takes the messages are processes of their own.
 */
import { imapBody, register } from "../bodies.ts";
import { type Service, startService, TOKEN } from "../service.ts";
import type { SendOrder } from "./bare-send.ts";
import { cpuSeconds } from "./measured.ts";
import { type Program, startProgram } from "./program.ts";
import { command, file } from "./rivals.ts";
import { type Bench, ratio, type Row, shown } from "./report.ts";
import type { LoadOrder } from "./send-load.ts";

type Result = { perSecond: number; cpu: number };
type Way = { port: number; sink: Program; connections: number };

/** Connections to one server: what the service takes for a mailbox that does not say, and what a relay of one's own stands. */
const CONNECTIONS = [2, 8];
const REQUESTS_AT_ONCE = 32;
const WARM_UP = 500;

/** As many messages as a burst has, from one mailbox. */
export async function sending({ sizes, runtime }: Bench): Promise<Row[]> {
  const sink = startProgram([...command(runtime), file("./send-sink.ts")]);
  try {
    const to = { sink, port: Number(await sink.order()) };
    const rows: Row[] = [];
    for (const connections of CONNECTIONS) rows.push(...(await compared({ ...to, connections }, runtime, sizes)));
    return rows;
  } finally {
    await sink.end();
  }
}

type Sizes = Bench["sizes"];

async function compared(to: Way, runtime: Bench["runtime"], sizes: Sizes): Promise<Row[]> {
  const ours = await byService(to, runtime, sizes);
  const bare = await byPool(to, runtime, sizes);
  const name = `${sizes.burst} sent of ${sizes.bytes} bytes over ${to.connections}`;
  const row = (what: string, a: number, b: number, unit = ""): Row => ({
    what: `${name}, ${what}`,
    ours: shown(a, unit),
    bare: shown(b, unit),
    compared: ratio(a, b),
  });
  return [
    row("per second", ours.perSecond, bare.perSecond),
    row("per second of one core", 1000 / ours.cpu, 1000 / bare.cpu),
    row("CPU per 1,000", ours.cpu, bare.cpu, "s"),
  ];
}

async function byService(to: Way, runtime: Bench["runtime"], { burst, bytes }: Sizes): Promise<Result> {
  const service = await startService({}, command(runtime));
  const load = startProgram([...command(runtime), file("./send-load.ts")]);
  try {
    const url = `${service.url}/api/v1/mailboxes/${await registered(service, to)}/messages`;
    return await timed(service.pid, to.sink, burst, async (count) => {
      const order: LoadOrder = { url, token: TOKEN, count, atOnce: REQUESTS_AT_ONCE, bytes };
      await load.order(order);
    });
  } finally {
    await load.end();
    await service.end();
  }
}

async function registered(service: Service, { port, connections }: Way): Promise<string> {
  const send = { host: "127.0.0.1", port, tls: "none", perHour: 100_000, connections, saveSent: "never" };
  // Nobody listens there: only sending is measured.
  const id = await register(service, imapBody({ imapPort: 1 }, "bench", { send }));
  await service.call("POST", `/api/v1/mailboxes/${id}/pause`);
  return id;
}

async function byPool(to: Way, runtime: Bench["runtime"], { burst, bytes }: Sizes): Promise<Result> {
  const pool = startProgram([...command(runtime), file("./bare-send.ts")]);
  try {
    return await timed(pool.pid, to.sink, burst, async (count) => {
      const order: SendOrder = { port: to.port, count, bytes, connections: to.connections };
      await pool.order(order);
    });
  } finally {
    await pool.end();
  }
}

/** From the first order to the last message taken; the first messages of a process pay for compiling its code. */
async function timed(
  pid: number,
  sink: Program,
  count: number,
  send: (count: number) => Promise<void>,
): Promise<Result> {
  const sent = (n: number) => Promise.all([sink.order(n), send(n)]);
  await sent(WARM_UP);
  const before = await cpuSeconds(pid);
  const began = performance.now();
  await sent(count);
  const ms = performance.now() - began;
  return { perSecond: (count * 1000) / ms, cpu: (((await cpuSeconds(pid)) - before) * 1000) / count };
}
