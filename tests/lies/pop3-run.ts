/** One run of the property test by POP3: a maildrop on a server that lies by chance. */
import { popBody, register } from "../bodies.ts";
import { type Random, randomFrom } from "../chaos/random.ts";
import { eventually } from "../servers/waiting.ts";
import { historyOf, hostOf, judge, type Ledger, type Outcome, type World, writeMessage } from "./model.ts";
import { fingerprint } from "../../shared/mail/fingerprint.ts";
import {
  createMaildrop,
  headOf,
  type LiarMaildrop,
  type LiarPop3Server,
  pickGrudge,
  type Pop3Message,
} from "./pop3-server.ts";

type Pop3World = World & { pop3: LiarPop3Server };
type Scene = {
  world: Pop3World;
  random: Random;
  user: string;
  maildrop: LiarMaildrop;
  story: string[];
  /** Everything that was ever in the maildrop, by content. */
  all: Map<string, Pop3Message>;
};

/** A message that is never given is tried ten times, once in a run of the poll at most. */
const PATIENCE_MS = 150_000;

/** Plays the scenario of a seed. */
export async function playPop3Run(world: Pop3World, seed: number): Promise<Outcome> {
  const random = randomFrom(seed);
  const user = `pop3-${seed}`;
  const ids = random.next() < 0.85;
  const maildrop = createMaildrop(random, {
    ids,
    // With neither ids nor headers a message has no name.
    top: !ids || random.next() < 0.85,
    pipelining: random.next() < 0.5,
    ignoresNumbers: random.next() < 0.15,
    sizes: random.pick(["true", "true", "zero", "more", "less"]),
  });
  const story = [JSON.stringify(maildrop.traits)];
  world.pop3.maildrops.set(hostOf(seed), maildrop);
  const scene: Scene = { world, random, user, maildrop, story, all: new Map() };
  await registerUser(scene, seed);
  maildrop.lying = true;
  try {
    await act(scene);
    maildrop.lying = false;
    story.push("no more lies");
    const broken = await judge(ledgerOf(scene), PATIENCE_MS);
    if (broken.length > 0) story.push(...(await historyOf(world, user)));
    return { seed, story, broken };
  } finally {
    await world.service.call("DELETE", `/api/v1/mailboxes/${user}`);
    world.pop3.maildrops.delete(hostOf(seed));
    world.endpoint.accepted.delete(user);
  }
}

async function registerUser({ world, random, user }: Scene, seed: number): Promise<void> {
  const afterDelivery = random.pick(["leave", "delete", "delete"] as const);
  const receive = { host: hostOf(seed), port: world.pop3.port, tls: "none", since: "now", afterDelivery };
  const deliver = { url: world.endpoint.url, format: "raw" };
  await register(
    world.service,
    popBody({ tlsPort: 0, ca: "" }, user, { id: user, receive: { ...receive, ca: undefined }, deliver }),
  );
  const isCompared = async () => {
    const { body: view } = await world.service.call("GET", `/api/v1/mailboxes/${user}`);
    return view.state.status === "polling";
  };
  await eventually(isCompared, `${user} to be looked at`);
}

/** Mail arrives, is taken away, has other ids, lines break; the service looks now and then. */
async function act(scene: Scene): Promise<void> {
  const { random, maildrop, story } = scene;
  for (let step = random.whole(3, 7); step > 0; step--) {
    const chance = random.next();
    if (chance < 0.6) append(scene);
    else if (chance < 0.7) takeAway(scene);
    else if (chance < 0.8) for (const socket of maildrop.sockets) socket.destroy();
    else if (maildrop.traits.ids) rename(scene);
    if (random.next() < 0.5) await lookAgain(scene);
  }
  append(scene);
  story.push(`${maildrop.messages.length} messages stay`);
}

function append({ random, user, maildrop, story, all }: Scene): void {
  const content = `${user}-${all.size}`;
  // What came in the second of the registration counts as older.
  const raw = writeMessage(content, new Date(Date.now() + 1000), random.whole(1, 20));
  const grudge = random.next() < 0.08 ? pickGrudge(random) : undefined;
  const message = { content, raw, id: `id-${content}`, ...(grudge && { grudge }) };
  all.set(content, message);
  maildrop.messages.push(message);
  story.push(`${content} arrives${grudge ? ` with a grudge: ${grudge}` : ""}`);
}

/** Somebody else deletes a message. */
function takeAway({ random, maildrop, story }: Scene): void {
  if (maildrop.messages.length === 0) return;
  const gone = random.pick(maildrop.messages);
  maildrop.messages = maildrop.messages.filter((one) => one !== gone);
  story.push(`${gone.content} is taken away`);
}

/** As after a restore: all messages, or some, have other ids. */
function rename({ random, maildrop, story }: Scene): void {
  const share = random.pick([0.5, 1]);
  const renamed = maildrop.messages.filter(() => random.next() < share);
  for (const message of renamed) message.id = `other-${message.id}`;
  story.push(`other ids: ${renamed.map(({ content }) => content).join(", ")}`);
}

/** A run of the poll comes at once when a paused mailbox goes on. */
async function lookAgain({ world, user, story }: Scene): Promise<void> {
  for (const action of ["pause", "resume"]) await world.service.call("POST", `/api/v1/mailboxes/${user}/${action}`);
  story.push("a look");
  await new Promise((resolve) => setTimeout(resolve, 300));
}

function ledgerOf({ world, user, maildrop, all }: Scene): Ledger {
  return {
    world,
    user,
    sent: new Map([...all].map(([content, { raw }]) => [content, raw])),
    deleted: maildrop.deleted,
    stays: () =>
      maildrop.messages.map(({ content, raw, id, grudge }) => ({
        content,
        raw,
        isWithheld: grudge !== undefined,
        isParked: ({ key }) => key === (maildrop.traits.ids ? id : ` ${fingerprint(headOf(raw))}`),
      })),
  };
}
