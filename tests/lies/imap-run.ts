/** One run of the property test: a mailbox on a server that lies by chance, and a model that counts what became of each message. */
import { imapBody, register } from "../bodies.ts";
import { type Random, randomFrom } from "../chaos/random.ts";
import { eventually } from "../servers/waiting.ts";
import { createLiar, type Traits } from "./imap-liar.ts";
import { historyOf, hostOf, judge, type Ledger, type Outcome, type World, writeMessage } from "./model.ts";
import type { LiarMailbox, LiarServer, StoredFolder } from "./imap-server.ts";

type ImapWorld = World & { server: LiarServer };

const PATIENCE_MS = 120_000;
/** On a busy machine the short time-outs of the runs end some connections before the first look is complete. */
const FIRST_LOOK_MS = 240_000;

/** Plays the scenario of a seed. */
export async function playImapRun(world: ImapWorld, seed: number): Promise<Outcome> {
  const random = randomFrom(seed);
  const user = `lies-${seed}`;
  const story: string[] = [];
  const mailbox = createMailbox(random, story);
  world.server.mailboxes.set(user, mailbox);
  const kept = random.pick(["leave", "delete", "delete"] as const);
  // What nobody has looked at is found by its date alone, so where dates are false the first look is an honest one.
  if (mailbox.liar.traits.dates === "true") mailbox.liar.startLying();
  await registerUser(world, { user, seed, afterDelivery: kept, mailbox });
  const sent = new Map<string, Buffer>();
  const scene = { world, random, user, mailbox, story, sent };
  mailbox.liar.startLying();
  try {
    await act(scene);
    mailbox.liar.stopLying();
    // What comes last makes the service look once more, as new mail does.
    for (const folder of mailbox.folders.keys()) append(scene, folder, "last");
    const broken = await judge(ledgerOf(scene), PATIENCE_MS);
    if (broken.length > 0) story.push(...(await historyOf(world, user)));
    return { seed, story, broken };
  } finally {
    await world.service.call("DELETE", `/api/v1/mailboxes/${user}`);
    world.server.mailboxes.delete(user);
    world.endpoint.accepted.delete(user);
  }
}

type Scene = {
  world: ImapWorld;
  random: Random;
  user: string;
  mailbox: LiarMailbox;
  story: string[];
  sent: Map<string, Buffer>;
};

function createMailbox(random: Random, story: string[]): LiarMailbox {
  const second = random.next() < 0.3;
  const traits: Traits = {
    idle: random.next() < 0.8,
    locked: second && random.next() < 0.3 ? "Orders" : undefined,
    uidValidity: random.next() < 0.9,
    uidNext: random.pick(["told", "told", "told", "absent", "ahead"]),
    sizes: random.pick(["true", "true", "zero", "absent", "more"]),
    dates: random.pick(["true", "true", "past", "future", "none", "any"]),
  };
  story.push(JSON.stringify(traits));
  const folders = new Map<string, StoredFolder>();
  for (const name of second ? ["INBOX", "Orders"] : ["INBOX"])
    folders.set(name, { uidValidity: random.whole(1, 4_000_000_000), uidNext: random.whole(1, 50), messages: [] });
  return {
    folders,
    liar: createLiar(random, traits),
    expunged: [],
    looks: 0,
    asked: new Set(),
    connections: new Set(),
  };
}

async function registerUser(
  { service, server, endpoint }: ImapWorld,
  { user, seed, afterDelivery, mailbox }: { user: string; seed: number; afterDelivery: string; mailbox: LiarMailbox },
): Promise<void> {
  const folders = [...mailbox.folders.keys()];
  const receive = { host: hostOf(seed), folders, afterDelivery };
  const deliver = { url: endpoint.url, format: "raw" };
  await register(service, imapBody({ imapPort: server.port }, user, { id: user, receive, deliver }));
  const isConnected = async () => {
    const { body: view } = await service.call("GET", `/api/v1/mailboxes/${user}`);
    return ["listening", "polling"].includes(view.state.status);
  };
  await eventually(isConnected, `${user} to be looked at`);
  const { traits } = mailbox.liar;
  // A slow first look at the other folders goes on after the state says that the mailbox is listened to.
  const others = folders.filter((name) => name !== "INBOX" && name !== traits.locked);
  if (traits.dates !== "true")
    await eventually(() => others.every((name) => mailbox.asked.has(name)), `${user}'s other folders`, FIRST_LOOK_MS);
}

/** Mail arrives, is taken away, is renumbered, lines break. */
async function act(scene: Scene): Promise<void> {
  const { random, mailbox, story } = scene;
  const steps = random.whole(3, 8);
  for (let step = 0; step < steps; step++) {
    const folder = random.pick([...mailbox.folders.keys()]);
    const chance = random.next();
    if (chance < 0.7) append(scene, folder, `${step}`);
    else if (chance < 0.8) takeAway(scene, folder);
    else if (chance < 0.9) scene.world.server.disconnect(scene.user);
    else if (mailbox.liar.traits.uidValidity) await renumber(scene, folder);
    if (random.next() < 0.7) await new Promise((resolve) => setTimeout(resolve, random.whole(1, 60)));
  }
  story.push("no more lies");
}

function append({ world, random, user, mailbox, story, sent }: Scene, folder: string, name: string): void {
  const stored = mailbox.folders.get(folder);
  if (!stored) return;
  const content = `${user}-${folder}-${name}-${sent.size}`;
  // What came in the second of the registration counts as older.
  const now = new Date(Date.now() + 1000);
  const raw = writeMessage(content, now, random.whole(1, 20));
  sent.set(content, raw);
  if (name !== "last" && random.next() < 0.1) {
    mailbox.liar.grudgeAgainst(content);
    story.push(`grudge against ${content}`);
  }
  if (random.next() < 0.1) stored.uidNext += random.whole(1, 3);
  stored.messages.push({ uid: stored.uidNext++, content, raw, receivedAt: now.getTime() });
  story.push(`${content} is uid ${stored.uidNext - 1}`);
  world.server.announce(user, folder);
}

/** Somebody else deletes a message. */
function takeAway({ random, mailbox, story }: Scene, folder: string): void {
  const stored = mailbox.folders.get(folder);
  if (!stored || stored.messages.length === 0) return;
  const [gone] = stored.messages.splice(random.whole(0, stored.messages.length - 1), 1);
  story.push(`${gone?.content} is taken away`);
}

async function renumber(scene: Scene, folder: string): Promise<void> {
  const { world, random, user, mailbox, story } = scene;
  const stored = mailbox.folders.get(folder);
  if (!stored) return;
  await untilLookedAt(scene);
  const epoch = String(stored.uidValidity);
  for (const message of stored.messages) message.earlier = [...(message.earlier ?? []), { epoch, uid: message.uid }];
  stored.uidValidity += random.whole(1, 1000);
  stored.uidNext = random.whole(1, 9);
  for (const message of stored.messages) message.uid = stored.uidNext++;
  story.push(
    `${folder} is renumbered: ${stored.messages.map(({ uid, content }) => `${content} is ${uid}`).join(", ")}`,
  );
  world.server.disconnect(user);
  await untilLookedAt(scene);
}

/** Where dates are false, only what comes after a look at its folder can be told from what was there before. */
async function untilLookedAt({ user, mailbox }: Scene): Promise<void> {
  if (!["past", "any"].includes(mailbox.liar.traits.dates)) return;
  const { looks } = mailbox;
  await eventually(() => mailbox.looks >= looks + 4 * (mailbox.folders.size + 1), `${user} to be looked at`);
}

function ledgerOf({ world, user, mailbox, sent }: Scene): Ledger {
  return {
    world,
    user,
    sent,
    deleted: mailbox.expunged,
    stays: () =>
      [...mailbox.folders]
        .filter(([folder]) => folder !== mailbox.liar.traits.locked)
        .flatMap(([folder, { messages }]) =>
          messages.map(({ uid, content, raw, earlier = [] }) => ({
            content,
            raw,
            // A replay finds a message that was parked under an earlier number.
            isParked: (ref) =>
              ref.folder === folder &&
              (ref.uid === uid || earlier.some((one) => one.epoch === ref.epoch && one.uid === ref.uid)),
          })),
        ),
  };
}
