/** What became of each message, counted at the endpoint and on the server: the promises that a run must keep, whatever the protocol. */
import type { Service } from "../service.ts";

export type World = {
  service: Service;
  /** Where messages are posted as they are; `accepted` are the posts by mailbox, in order. */
  endpoint: { url: string; accepted: Map<string, Accepted[]> };
};

/** A post that the endpoint accepted: the bytes of the message, the delivery id, and when. */
export type Accepted = { bytes: Buffer; delivery: string; at: string };

/** A broken promise, in words; none when all were kept. */
export type Outcome = { seed: number; broken: string[]; story: string[] };

export type ParkedRef = { folder: string; uid: number; epoch: string; key?: string };

/** What a run knows of its mailbox. */
export type Ledger = {
  world: World;
  user: string;
  /** Everything that was ever put into the mailbox, by content. */
  sent: Map<string, Buffer>;
  /** Messages that are on the server now, how a parked delivery names them, and whether the server never gives them. */
  stays(): { content: string; raw: Buffer; isParked(ref: ParkedRef): boolean; isWithheld?: boolean }[];
  /** Contents that the service deleted. */
  deleted: readonly string[];
};

const SETTLE_MS = 250;
const ROUND_MS = 50;
/** How many times the patience is waited at most, however much the machine has to do. */
const MOST_TIMES = 6;
/** A broken promise is waited on for so long, to tell a late message from a lost one. */
const LATE_MS = 120_000;

/**
 * Waits until every message that stays is accounted for, then counts. Of a round of waiting only so much counts as the round takes when nothing
 * else runs: where the service stands still for longer than its own time-outs, its tries fail by that and not by the server.
 */
export async function judge(ledger: Ledger, patienceMs: number): Promise<string[]> {
  const end = Date.now() + MOST_TIMES * patienceMs;
  let missing = await unaccounted(ledger);
  for (let waited = 0; missing.length > 0 && waited < patienceMs && Date.now() < end;) {
    const began = Date.now();
    await new Promise((resolve) => setTimeout(resolve, ROUND_MS));
    missing = await unaccounted(ledger);
    waited += Math.min(Date.now() - began, 2 * ROUND_MS);
  }
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  const late = missing.length > 0 ? await waitOn(ledger) : "";
  return [
    ...missing.map((content) => `${content} stays on the server, neither delivered nor parked in time${late}`),
    ...count(ledger),
  ];
}

/** What became of the messages after the patience: whether they came late, or not at all. */
async function waitOn(ledger: Ledger): Promise<string> {
  const began = Date.now();
  const seconds = () => Math.round((Date.now() - began) / 1000);
  while (Date.now() - began < LATE_MS) {
    if ((await unaccounted(ledger)).length === 0) return `; it was ${seconds()} s later`;
    await new Promise((resolve) => setTimeout(resolve, ROUND_MS));
  }
  return `, nor ${seconds()} s later`;
}

async function unaccounted({ world, user, stays }: Ledger): Promise<string[]> {
  const parked = await parkedIn(world, user);
  const accepted = world.endpoint.accepted.get(user) ?? [];
  const all = stays();
  const missing = all.filter(
    ({ raw, isParked }) => !accepted.some(({ bytes }) => bytes.equals(raw)) && !parked.some(isParked),
  );
  // Where the server gives no message at all, that is a fault of the mailbox: none is parked, and the mailbox says so.
  const givesNone = all.every(({ isWithheld }) => isWithheld === true);
  if (missing.length > 0 && givesNone && (await showsDownloadFault(world, user))) return [];
  return missing.map(({ content }) => content);
}

async function showsDownloadFault({ service }: World, user: string): Promise<boolean> {
  const { body } = await service.call("GET", `/api/v1/mailboxes/${user}`);
  return /cannot be downloaded/.test(body.state.problem?.cause ?? "");
}

async function parkedIn({ service }: World, user: string): Promise<ParkedRef[]> {
  const { body } = await service.call("GET", `/api/v1/deliveries?state=parked&mailbox=${user}&limit=100`);
  return body.items.map(({ ref }: { ref: ParkedRef }) => ref);
}

/** What was delivered twice, delivered although nobody sent it, or deleted without having been accepted whole. */
function count({ world, user, sent, deleted }: Ledger): string[] {
  const accepted = world.endpoint.accepted.get(user) ?? [];
  const broken: string[] = [];
  for (const [content, raw] of sent) {
    const posts = accepted.filter(({ bytes }) => bytes.equals(raw));
    const times = posts.length;
    const told = posts.map(({ delivery, at }) => `${delivery} at ${at}`);
    if (times > 1) broken.push(`${content} was delivered ${times} times: ${told.join(", ")}`);
    if (deleted.includes(content) && times === 0) broken.push(`${content} was deleted and never accepted`);
  }
  const strange = accepted.filter(({ bytes }) => ![...sent.values()].some((raw) => raw.equals(bytes)));
  for (const { bytes } of strange)
    broken.push(
      `the endpoint got ${bytes.length} bytes that are no message: ${bytes.toString("latin1").slice(0, 200)}`,
    );
  return broken;
}

/** What the service says happened, oldest first, and how the mailbox is doing. */
export async function historyOf({ service }: World, user: string): Promise<string[]> {
  const { body } = await service.call("GET", `/api/v1/mailboxes/${user}/events?limit=200`);
  const { body: view } = await service.call("GET", `/api/v1/mailboxes/${user}`);
  return [...body.items.toReversed(), view.state].map((fact) => JSON.stringify(fact));
}

/** A host of its own for each run, so that the pace of logins to one host plays no part. */
export function hostOf(seed: number): string {
  return `127.0.${Math.floor(seed / 250) % 250}.${(seed % 250) + 1}`;
}

/** A message that is told from all others by its content. */
export function writeMessage(content: string, at: Date, lines: number): Buffer {
  const body = Array.from({ length: lines }, (_, number) => `line ${number} of ${content}`).join("\r\n");
  return Buffer.from(
    `From: a@example.org\r\nMessage-ID: <${content}@example.org>\r\nDate: ${at.toUTCString()}\r\nSubject: ${content}\r\n\r\n${body}\r\n`,
  );
}
