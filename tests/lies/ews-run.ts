/** One run of the property test by EWS: a mailbox on an Exchange server that lies and fails by chance. */
import { ewsBody, PASSWORD, register } from "../bodies.ts";
import { type Random, randomFrom } from "../chaos/random.ts";
import type { Lie } from "../servers/exchange/ask.ts";
import type { Fault } from "../servers/exchange/faults.ts";
import type { Exchange } from "../servers/exchange/server.ts";
import { eventually } from "../servers/waiting.ts";
import { historyOf, judge, type Ledger, type Outcome, type World, writeMessage } from "./model.ts";

type EwsWorld = World & { exchange: Exchange; liars: ExchangeLiars };
/** What is told of an item, by the address of its mailbox. */
export type ExchangeLiars = Map<string, (content: string, place: "changes" | "content") => Lie | undefined>;
type Traits = { mode: "push" | "poll"; dates: "true" | "past" | "future" | "any" };
type Scene = {
  world: EwsWorld;
  random: Random;
  address: string;
  traits: Traits;
  story: string[];
  /** Everything that was ever in the mailbox, by content. */
  all: Map<string, Buffer>;
};

const PATIENCE_MS = 90_000;
const MOST_LIES = 2;
const DAY_MS = 86_400_000;
const OPERATIONS = ["SyncFolderItems", "GetItem", "DeleteItem", "Subscribe", "GetStreamingEvents", "*"] as const;
/** Exchange's words for one message that it does not give, for good and for a moment. */
const REFUSALS = ["ErrorAccessDenied", "ErrorVirusDetected", "ErrorItemCorrupt"] as const;
const MOMENTARY = ["ErrorAccessDenied", "ErrorVirusDetected", "ErrorInternalServerError"] as const;

/** An Exchange server whose mailboxes lie as `liars` says. */
export function toLiar(exchange: Exchange): ExchangeLiars {
  const liars: ExchangeLiars = new Map();
  exchange.lie(({ folder, head }, place) => liars.get(folder.mailbox.address)?.(head.subject, place));
  return liars;
}

/** Plays the scenario of a seed. */
export async function playEwsRun(world: EwsWorld, seed: number): Promise<Outcome> {
  const random = randomFrom(seed);
  const address = `ews-${seed}@example.com`;
  const traits: Traits = {
    mode: random.pick(["push", "push", "poll"] as const),
    dates: random.pick(["true", "true", "past", "future", "any"] as const),
  };
  const scene: Scene = { world, random, address, traits, story: [JSON.stringify(traits)], all: new Map() };
  const { story } = scene;
  await world.exchange.addUser(address, PASSWORD);
  const id = await registerUser(scene);
  world.liars.set(address, createLiar(random));
  try {
    await act(scene, id);
    world.liars.delete(address);
    story.push("no more lies");
    // Refusals are one message's own only beside a message that is given.
    await append(scene, false);
    const broken = await judge(ledgerOf(scene, id), PATIENCE_MS);
    if (broken.length > 0) story.push(...(await historyOf(world, id)));
    return { seed, story, broken };
  } finally {
    await world.service.call("DELETE", `/api/v1/mailboxes/${id}`);
    world.liars.delete(address);
    world.endpoint.accepted.delete(id);
  }
}

/** Each message is lied about so often at most in one way: a server that lies for ever cannot be told from one that is right. */
function createLiar(random: Random): NonNullable<ReturnType<ExchangeLiars["get"]>> {
  const told = new Map<string, number>();
  const lies = (about: string, chance: number) => {
    const times = told.get(about) ?? 0;
    if (times >= MOST_LIES || random.next() >= chance) return false;
    told.set(about, times + 1);
    return true;
  };
  return (content, place) => {
    if (lies(`${place} left out ${content}`, 0.1)) return "left out";
    if (place === "changes") return lies(`double ${content}`, 0.1) ? "double" : undefined;
    return lies(`refused ${content}`, 0.07) ? { code: random.pick(MOMENTARY) } : undefined;
  };
}

async function registerUser({ world, random, address, traits }: Scene): Promise<string> {
  const id = address.replace("@example.com", "");
  const afterDelivery = random.pick(["leave", "delete", "delete"] as const);
  const receive = { mode: traits.mode, poll: { everySeconds: 10 }, afterDelivery };
  const deliver = { url: world.endpoint.url, format: "raw" };
  await register(world.service, ewsBody(world.exchange, address, { id, receive, deliver }));
  const isCompared = async () => {
    const { body: view } = await world.service.call("GET", `/api/v1/mailboxes/${id}`);
    return ["listening", "polling"].includes(view.state.status);
  };
  await eventually(isCompared, `${id} to be looked at`, 60_000);
  return id;
}

/** Mail arrives, is taken away, the server fails, and forgets how far it was read. */
async function act(scene: Scene, id: string): Promise<void> {
  const { world, random, address, traits, story } = scene;
  for (let step = random.whole(3, 8); step > 0; step--) {
    const chance = random.next();
    if (chance < 0.6) await append(scene);
    else if (chance < 0.7) takeAway(scene);
    else if (chance < 0.9) fail(scene);
    else if (traits.dates === "true") {
      world.exchange.invalidateSyncStates(address);
      story.push("sync states are lost");
    }
    if (random.next() < 0.5) await lookAgain(scene, id);
  }
}

async function append({ world, random, address, traits, story, all }: Scene, mayBeRefused = true): Promise<void> {
  const content = `${address.split("@")[0]}-${all.size}`;
  const now = new Date(Date.now() + 1000);
  const raw = writeMessage(content, now, random.whole(1, 20));
  all.set(content, raw);
  const receivedAt = chooseDate(random, traits, now);
  const id = await world.exchange.append(address, "inbox", raw, { receivedAt });
  const grudge = mayBeRefused && random.next() < 0.08 ? random.pick(REFUSALS) : undefined;
  if (grudge) world.exchange.refuseItem(id, grudge);
  story.push(`${content} arrives, dated ${receivedAt.toISOString()}${grudge ? `, refused as ${grudge}` : ""}`);
}

function chooseDate(random: Random, { dates }: Traits, now: Date): Date {
  const kind = dates === "any" ? random.pick(["true", "past", "future"] as const) : dates;
  if (kind === "true") return now;
  const days = random.whole(1, 4000);
  return new Date(now.getTime() + (kind === "past" ? -days : days) * DAY_MS);
}

/** Somebody else deletes a message for good. */
function takeAway({ world, random, address, story }: Scene): void {
  const items = world.exchange.items(address, "inbox");
  if (items.length === 0) return;
  const { id, subject } = random.pick(items);
  world.exchange.remove(address, id);
  story.push(`${subject} is taken away`);
}

/** A request of the mailbox fails, once or twice. */
function fail({ world, random, address, story }: Scene): void {
  const fault = random.pick<Fault>([
    { cut: "before" },
    { cut: "after" },
    { cut: random.whole(1, 3000) },
    { hang: true },
    { status: random.pick([500, 502, 503]) },
    { responseCode: "ErrorServerBusy", backOffMs: 50 },
    { responseCode: "ErrorInternalServerError" },
    { soapFault: "ErrorInternalServerTransientError" },
  ]);
  const operation = random.pick(OPERATIONS);
  world.exchange.faults.once(operation, fault, { user: address, times: random.whole(1, 2) });
  story.push(`${operation}: ${JSON.stringify(fault)}`);
}

/** A mailbox looks at once when it was paused and goes on. */
async function lookAgain({ world, story }: Scene, id: string): Promise<void> {
  for (const action of ["pause", "resume"]) await world.service.call("POST", `/api/v1/mailboxes/${id}/${action}`);
  story.push("a look");
  await new Promise((resolve) => setTimeout(resolve, 300));
}

function ledgerOf({ world, address, all }: Scene, user: string): Ledger {
  return {
    world,
    user,
    sent: all,
    get deleted() {
      return world.exchange.items(address, "deleteditems").map(({ subject }) => subject);
    },
    stays: () =>
      world.exchange.items(address, "inbox").map(({ id, subject, raw }) => ({
        content: subject,
        raw,
        isParked: ({ key }) => key === id,
      })),
  };
}
