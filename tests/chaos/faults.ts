/** What goes wrong, each for some seconds: processes die or stand still, lines are cut, the endpoint misbehaves. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Answer } from "../servers/endpoint.ts";
import type { Fault as ExchangeFault } from "../servers/exchange/faults.ts";
import type { Fault as GraphFault } from "../servers/graph/faults.ts";
import type { GraphServer } from "../servers/graph/server.ts";
import type { Proxy } from "../servers/proxy.ts";
import type { RabbitMq } from "../servers/rabbitmq.ts";
import type { Random } from "./random.ts";
import { type ChaosNode, SESSION_SECONDS, type Third, type World } from "./world.ts";

/** One fault that was chosen: `happen` resolves when it is over and everything is in order again. */
export type Fault = { name: string; happen: () => Promise<void> };

type Kind = (world: World, random: Random) => Fault;

/** Every kind once; a run goes through them in random order again and again. */
export function kindsOf({ rabbit, third }: World): Kind[] {
  const ofThird = third.kind === "exchange" ? kindsOfExchange(third) : kindsOfGraph(third.server);
  return [...KINDS, ...ofThird, ...(rabbit ? kindsOfBroker(rabbit) : [])];
}

const kindsOfExchange = ({ server, line }: Third & { kind: "exchange" }): Kind[] => {
  const all = (name: string, fault: ExchangeFault, random: Random) =>
    faulty(name, server, () => server.faults.always("*", fault), random);
  return [
    (_world, random) => cut("all nodes - exchange", line, random),
    (_world, random) => restarted("exchange", server, random),
    (_world, random) => all("exchange is busy", { soapFault: "ErrorServerBusy", backOffMs: 1_000 }, random),
    (_world, random) => all("exchange answers 503", { status: 503, retryAfter: 1 }, random),
    (_world, random) => all("exchange cuts every answer", { cut: random.whole(1, 2_000) }, random),
    () => atOnce("exchange forgets subscriptions", () => server.expireSubscriptions()),
    () => atOnce("exchange refuses old sync states", () => server.invalidateSyncStates()),
    () => atOnce("exchange loses events", () => server.missEvents()),
  ];
};

const kindsOfGraph = (server: GraphServer): Kind[] => {
  const all = (name: string, fault: GraphFault, random: Random) =>
    faulty(name, server, () => server.faults.always("*", fault), random);
  return [
    (_world, random) => restarted("graph", server, random),
    (_world, random) => all("graph asks to wait", { status: 429, code: "TooManyRequests", retryAfter: "1" }, random),
    (_world, random) => all("graph answers as a gateway", { status: 504, body: "<html>" }, random),
    (_world, random) => all("graph cuts before the work", { cut: "before" }, random),
    (_world, random) => all("graph cuts after the work", { cut: "after" }, random),
    (_world, random) => all("graph cuts every answer", { cut: random.whole(1, 2_000) }, random),
    (_world, random) => all("graph hangs", { hang: true }, random),
    () => atOnce("graph forgets all tokens", () => server.forgetTokens()),
    () => atOnce("graph refuses old delta links", () => server.killDeltaTokens("gone")),
  ];
};

const kindsOfBroker = (rabbit: RabbitMq): Kind[] => [
  (world, random) => killed(random.pick(world.workers), random),
  (_world, random) => restarted("rabbitmq", rabbit, random),
  (world, random) => {
    const node = random.pick([...world.apis, ...world.workers]);
    return node.toRabbit ? cut(`${node.name} - rabbitmq`, node.toRabbit, random) : killed(node, random);
  },
];

const KINDS: readonly Kind[] = [
  (world, random) => killed(random.pick(world.apis), random),
  (world, random) => paused(random.pick(world.apis), random),
  (world, random) => restarted("redis", world.redis, random),
  (world, random) => {
    const node = random.pick([...world.apis, ...world.workers]);
    return cut(`${node.name} - redis`, node.toRedis, random);
  },
  (world, random) => cut("all nodes - smtp", world.toSmtp, random),
  (world, random) => deferred(world, random),
  (world, random) => cut("all nodes - dovecot", world.toDovecot, random),
  (world, random) => cut("all nodes - endpoint", world.toEndpoint, random),
  (world, random) => answering("endpoint answers 500", world, { status: 500 }, random),
  (world, random) => answering("endpoint hangs", world, { hang: true }, random),
  (world, random) => answering("endpoint closes after the body", world, { closeBefore: true }, random),
  (world, random) => {
    const ms = random.whole(2_000, 6_000);
    const happen = async () => {
      await world.endpoint.stop();
      await sleep(ms);
      await world.endpoint.start();
    };
    return { name: "endpoint is away", happen };
  },
];

function killed({ name, service }: ChaosNode, random: Random): Fault {
  const ms = random.whole(200, 3_000);
  const happen = async () => {
    await service.kill();
    await sleep(ms);
    await service.start();
  };
  return { name: `kill -9 ${name}`, happen };
}

function paused({ name, service }: ChaosNode, random: Random): Fault {
  const ms = SESSION_SECONDS * 1000 + random.whole(1_000, 4_000);
  const happen = async () => {
    service.pause();
    await sleep(ms);
    service.resume();
  };
  return { name: `SIGSTOP ${name}, longer than its session`, happen };
}

function restarted(name: string, server: { kill(): Promise<void>; start(): Promise<void> }, random: Random): Fault {
  const ms = random.whole(200, 3_000);
  const happen = async () => {
    await server.kill();
    await sleep(ms);
    await server.start();
  };
  return { name: `kill -9 ${name}`, happen };
}

/** A line that is silently dead, or one that refuses: the one is found by deadlines only, the other at once. */
function cut(between: string, line: Proxy, random: Random): Fault {
  const silent = random.next() < 0.5;
  const ms = random.whole(2_000, 8_000);
  const happen = async () => {
    if (silent) await line.set({ blackhole: true });
    else {
      await line.set({ refuse: true });
      line.resetAll();
    }
    await sleep(ms);
    await line.set({});
  };
  return { name: `${silent ? "silence" : "refusal"} ${between}`, happen };
}

function answering(name: string, { endpoint }: World, answer: Answer, random: Random): Fault {
  const ms = random.whole(2_000, 6_000);
  const happen = async () => {
    endpoint.answer(() => answer);
    await sleep(ms);
    endpoint.answer(() => ({}));
  };
  return { name, happen };
}

function deferred({ smtp }: World, random: Random): Fault {
  const ms = random.whole(2_000, 6_000);
  const happen = async () => {
    smtp.play(({ step }) => (step === "rcpt" ? "451 4.7.1 Greylisted" : undefined));
    await sleep(ms);
    smtp.play(() => undefined);
  };
  return { name: "smtp defers", happen };
}

type Faulty = { disconnectAll(): unknown; faults: { clear(): void } };

/** A mail server answers all requests wrongly for some seconds. */
function faulty(name: string, server: Faulty, begin: () => void, random: Random): Fault {
  const ms = random.whole(2_000, 6_000);
  const happen = async () => {
    begin();
    server.disconnectAll();
    await sleep(ms);
    server.faults.clear();
  };
  return { name, happen };
}

function atOnce(name: string, work: () => void): Fault {
  return { name, happen: async () => work() };
}
