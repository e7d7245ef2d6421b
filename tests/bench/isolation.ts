/**
 * What others wait beside somebody who hangs, against what they wait when nobody does: each pair measured in one run, on one node and with
 * a worker. Mail server and endpoint are part of this process, so that nothing but the service takes time.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { startEndpoint } from "../servers/endpoint.ts";
import { startImapServer } from "../servers/imap/server.ts";
import { message } from "../servers/mail.ts";
import { provide } from "../servers/provide.ts";
import { startSmtpScript } from "../servers/smtp-script.ts";
import { eventually } from "../servers/waiting.ts";
import {
  crmOf,
  embedded,
  fill,
  overServers,
  type StartNodes,
  through,
  type World,
  worldOf,
} from "../stories/strangers.ts";
import { quantile } from "./measured.ts";
import { type Row, type Setup, shown } from "./report.ts";
import { command } from "./rivals.ts";

export const OTHERS = 40;
const PACE_MS = 25;
const ARRIVE_MS = 120_000;
/** By then the work that the hung one itself brings is done: its mail is downloaded, and what is left of it waits. */
const SETTLED_MS = 10_000;
const BURST_MAILS = 2_000;
const RATE_DELAY_MS = 100;
const RATE_GOAL = 200;

/** Somebody hangs from now on; resolves once it does, with what ends it. */
type Hang = (world: World) => Promise<() => Promise<unknown>>;
/** Milliseconds that each of so many pieces of others' work took, which came one by one or, without a pace, at once. */
type Measure = (count: number, paceMs?: number) => Promise<number[]>;
type Story = { what: string; hang: Hang; prepare: (world: World) => Promise<Measure> };

const STORIES: Story[] = [
  { what: "mail, an endpoint hangs", hang: hangingEndpoint, prepare: othersMail },
  { what: "mail, a mail host is silent", hang: (world) => hangingMailHost(world, "silent"), prepare: othersMail },
  { what: "mail, a mail host trickles", hang: (world) => hangingMailHost(world, "trickle"), prepare: othersMail },
  { what: "mail, a CRM's callbacks hang", hang: hangingCrm, prepare: othersMail },
  { what: "sending, a relay hangs", hang: hangingRelay, prepare: othersSending },
];

/** The others' p50 and p99 and their burst beside each who hangs, and how many deliveries a second an endpoint gets that takes 100 ms. */
export async function isolation({ sizes, runtime }: Setup): Promise<Row[]> {
  const rows: Row[] = [];
  const nodes: [string, StartNodes][] = [["embedded", embedded(command(runtime))]];
  const [redis, rabbit] = [await provide("redis"), await provide("rabbitmq")];
  if (redis && rabbit)
    nodes.push(["with a worker", overServers(redis.server.url, rabbit.server.url, () => command(runtime))]);
  try {
    for (const [name, start] of nodes) {
      rows.push(await rate(name, start));
      for (const story of STORIES) {
        console.log(`  ${name}: ${story.what} ...`);
        rows.push(...(await beside(name, start, story, sizes.mails)));
      }
    }
    return rows;
  } finally {
    await Promise.all([redis?.server.remove(), rabbit?.server.remove()]);
  }
}

async function rate(name: string, start: StartNodes): Promise<Row> {
  const world = await worldOf(start);
  try {
    const users = await world.mailboxes("busy", OTHERS);
    world.endpoint.answer(() => ({ delayMs: RATE_DELAY_MS }));
    await fill(world.mail, users, BURST_MAILS / OTHERS);
    await world.endpoint.waitFor(BURST_MAILS, ARRIVE_MS);
    const times = world.endpoint.received.map(({ at }) => at);
    const perSecond = (BURST_MAILS * 1_000) / (Math.max(...times) - Math.min(...times));
    return {
      what: `${name}: deliveries a second to an endpoint that takes ${RATE_DELAY_MS} ms`,
      ours: shown(perSecond),
      bare: shown(RATE_GOAL),
      compared: `x ${(perSecond / RATE_GOAL).toFixed(2)}`,
    };
  } finally {
    await world.end();
  }
}

async function beside(name: string, start: StartNodes, story: Story, mails: number): Promise<Row[]> {
  const world = await worldOf(start);
  try {
    const measure = await story.prepare(world);
    // The first ones pay for compiling the code.
    await measure(OTHERS);
    const isMail = story.prepare === othersMail;
    const both = async () => ({ times: await measure(mails), perSecond: isMail ? await burst(measure) : 0 });
    const quiet = await both();
    const end = await story.hang(world);
    await sleep(SETTLED_MS);
    const disturbed = await both().finally(end);
    const row = (what: string, a: number, b: number, unit = ""): Row => ({
      what: `${name}: others' ${story.what}, ${what}`,
      ours: shown(a, unit),
      bare: shown(b, unit),
      compared: `x ${(a / b).toFixed(2)}`,
    });
    return [
      ...[0.5, 0.99].map((share) =>
        row(`p${share * 100}`, quantile(disturbed.times, share), quantile(quiet.times, share), "ms"),
      ),
      ...(isMail ? [row(`${BURST_MAILS} at once, per second`, disturbed.perSecond, quiet.perSecond)] : []),
    ];
  } finally {
    await world.end();
  }
}

async function burst(measure: Measure): Promise<number> {
  const began = performance.now();
  await measure(BURST_MAILS, 0);
  return (BURST_MAILS * 1_000) / (performance.now() - began);
}

/** From the moment a mail is in its mailbox until the endpoint has it. */
export async function othersMail(world: World): Promise<Measure> {
  const users = await world.mailboxes("other", OTHERS);
  const arrived = new Map<string, number>();
  world.endpoint.answer(({ json }) => {
    arrived.set(subjectOf(json), performance.now());
    return {};
  });
  let number = 0;
  return async (count, paceMs = PACE_MS) => {
    const sent = new Map<string, number>();
    for (let n = 0; n < count; n++) {
      const subject = `measured ${number++}`;
      sent.set(subject, performance.now());
      await world.mail.append(users[n % OTHERS] ?? "", "INBOX", message({ subject, text: subject }));
      if (paceMs > 0) await sleep(paceMs);
    }
    await eventually(() => [...sent.keys()].every((subject) => arrived.has(subject)), "the others' mail", ARRIVE_MS);
    return [...sent].map(([subject, at]) => (arrived.get(subject) ?? Number.NaN) - at);
  };
}

const subjectOf = (json: unknown) => (json as { data: { subject: string } }).data.subject;

/** From the request to send until the mail server has taken the message. */
async function othersSending(world: World): Promise<Measure> {
  const relay = await startSmtpScript();
  const taken = new Map<string, number>();
  relay.play(({ step, line }) => {
    if (step === "end") taken.set(/^Subject: (.*)$/m.exec(line)?.[1]?.trim() ?? "", performance.now());
    return undefined;
  });
  const users = await world.mailboxes("other", OTHERS, { send: through(relay) });
  let number = 0;
  return async (count) => {
    const sent = new Map<string, number>();
    for (let n = 0; n < count; n++) {
      const subject = `measured ${number++}`;
      sent.set(subject, performance.now());
      await send(world, users[n % OTHERS] ?? "", subject);
      await sleep(PACE_MS);
    }
    await eventually(() => [...sent.keys()].every((subject) => taken.has(subject)), "the others' mail", ARRIVE_MS);
    return [...sent].map(([subject, at]) => (taken.get(subject) ?? Number.NaN) - at);
  };
}

async function send({ api }: World, user: string, subject: string): Promise<void> {
  const body = { to: ["bob@example.net"], subject, text: subject };
  const answer = await api.call("POST", `/api/v1/mailboxes/${user}/messages`, body);
  if (answer.status >= 300) throw new Error(JSON.stringify(answer.body));
}

async function hangingEndpoint(world: World) {
  const hung = await startEndpoint({ secret: null });
  hung.answer(() => ({ hang: true }));
  const users = await world.mailboxes("hung", 80, { url: hung.url });
  await fill(world.mail, users, 5);
  await eventually(() => hung.requests.length > 0, "the first request to hang");
  return () => hung.stop();
}

async function hangingMailHost(world: World, how: "silent" | "trickle") {
  const bad = await startImapServer();
  bad.faults.withholdContent = how;
  const users = await world.mailboxes("hung", 40, { mail: bad });
  await fill(bad, users, 3);
  return () => bad.stop();
}

async function hangingRelay(world: World) {
  const hung = await startSmtpScript();
  hung.play(({ step }) => (step === "data" ? new Promise(() => undefined) : undefined));
  const users = await world.mailboxes("hung", 40, { send: through(hung) });
  await Promise.all(users.flatMap((user) => ["one", "two", "three"].map((subject) => send(world, user, subject))));
  await eventually(() => hung.moments.some(({ step }) => step === "data"), "the first message to hang");
  return () => hung.stop();
}

async function hangingCrm(world: World) {
  const { crm, add } = await crmOf(world, "hung", 40);
  let hanging = 0;
  crm.fault = (method) => {
    if (method !== "ProcessMailboxState") return undefined;
    hanging += 1;
    return { hang: true };
  };
  await add();
  await eventually(() => hanging > 0, "the first callback to hang", ARRIVE_MS);
  return () => crm.stop();
}
