/**
 * A fake Exchange server for tests: EWS over real sockets, faithful to Microsoft's documentation as far as mail goes, with every
 * fault on command. A client nobody here wrote (exchangelib) checks that it is honest.
 */
import { makeCertificates } from "../certificates.ts";
import type { Limits, Sent, World } from "./ask.ts";
import { type Discovery, discover, newDiscovery, redirected, servicePath } from "./autodiscover.ts";
import { type MailControls, mailControls, type Mischief, mischief } from "./controls.ts";
import { type Faults, newFaults } from "./faults.ts";
import { type HttpReply, type HttpRequest, type HttpServer, listenHttp } from "./http.ts";
import { logIn, type Scheme } from "./login.ts";
import type { Beat } from "./notify.ts";
import { type Call, serve, type Service } from "./service.ts";
import type { Style } from "./soap.ts";
import { newStore } from "./store.ts";
import { newSubscriptions } from "./subscriptions.ts";

export type ExchangeOptions = {
  /** TLS with a certificate of its own authority, see `ca`. */
  tls?: boolean;
  version?: "2013" | "2016";
  /** The prefix of every envelope; "" for none. Without it as Exchange does: "s", and none in streams. */
  prefix?: string;
  /** Bodies go out in HTTP chunks of this size. */
  chunkBytes?: number;
  /** 45 seconds without a word. */
  heartbeatMs?: number;
  /** How long a minute of a connection's or a subscription's lifetime takes. */
  minuteMs?: number;
};

export type Exchange = MailControls &
  Mischief & {
    name: string;
    host: string;
    port: number;
    url: string;
    ca: string | undefined;
    /** .../autodiscover/autodiscover.xml; the SOAP service is next to it. */
    autodiscoverUrl: string;
    /** What autodiscover says; may be changed at any time. */
    discovery: Discovery;
    /** A token that logs this user in. */
    tokens: { accept(token: string, address: string): void; forget(token: string): void };
    sent: Sent[];
    calls: Call[];
    /** Who showed a password or token that was refused, in order. */
    refusedLogins: string[];
    /** The hanging connections, each with the number of its subscriptions. */
    streams(): number[];
    /** How many subscriptions there are, streamed or not. */
    subscriptions(): number;
    connections(): number;
    faults: Faults;
    limits: Limits;
    /** May be changed at any time. */
    schemes: Scheme[];
    disconnectAll(): void;
    /** Mail and sync states outlast it; subscriptions do not. */
    stop(): Promise<void>;
    kill(): Promise<void>;
    start(): Promise<void>;
  };

const BUILDS: Record<string, { build: [number, number, number, number]; schema: string }> = {
  "2013": { build: [15, 0, 1497, 2], schema: "V2_23" },
  "2016": { build: [15, 1, 2507, 6], schema: "V2017_07_11" },
};

const LIMITS = { subscriptions: 5000, requestBytes: 64e6, messageBytes: 36e6 };

/** Starts a server without mailboxes on a free port. */
export async function startExchange(options: ExchangeOptions = {}): Promise<Exchange> {
  const certificates = options.tls ? await makeCertificates() : undefined;
  const { build, schema } = BUILDS[options.version ?? "2016"] ?? { build: [15, 1, 2507, 6], schema: "V2017_07_11" };
  const store = newStore();
  const subscriptions = newSubscriptions();
  store.happened = subscriptions.happened;
  const limits: Limits = { ...LIMITS, connections: options.version === "2013" ? 3 : 10 };
  const world: World = {
    store,
    subscriptions,
    limits,
    sent: [],
    refused: new Map(),
    withoutMime: new Set(),
    lieAbout: () => undefined,
    generation: 1,
    build,
  };
  const { heartbeatMs = 45_000, minuteMs = 60_000 } = options;
  const beat: Beat = { heartbeatMs, minuteMs, heartbeats: true, streaming: true };
  const style: Style = { prefix: options.prefix, build, schema };
  const { faults, take } = newFaults();
  const calls: Call[] = [];
  const service: Service = { world, style, beat, calls, take };
  const tokens = new Map<string, string>();
  const discovery = newDiscovery();
  const refusedLogins: string[] = [];
  const front: Front = { service, tokens, discovery, url: "", schemes: ["basic", "ntlm", "bearer"], refusedLogins };
  const http = { chunkBytes: options.chunkBytes, tls: certificates?.server };
  let server: HttpServer = await listenHttp({ port: 0, ...http }, (request, reply) => receive(front, request, reply));
  const { port } = server;
  const origin = `http${options.tls ? "s" : ""}://127.0.0.1:${port}`;
  front.url = `${origin}/EWS/Exchange.asmx`;
  const stop = async (): Promise<void> => {
    await server.stop();
    subscriptions.byId.clear();
    subscriptions.expire();
  };
  return {
    name: `a fake Exchange ${options.version ?? "2016"}`,
    host: "127.0.0.1",
    port,
    url: front.url,
    autodiscoverUrl: `${origin}/autodiscover/autodiscover.xml`,
    discovery,
    ca: certificates?.ca,
    tokens: {
      accept: (token, address) => void tokens.set(token, address),
      forget: (token) => void tokens.delete(token),
    },
    ...mailControls(store),
    sent: world.sent,
    calls,
    refusedLogins,
    streams: () => [...subscriptions.streams].map((one) => one.subscriptions.size),
    subscriptions: () => subscriptions.byId.size,
    connections: () => server.open(),
    faults,
    limits,
    get schemes() {
      return front.schemes;
    },
    set schemes(list) {
      front.schemes = list;
    },
    ...mischief(world, beat),
    disconnectAll: () => server.disconnectAll(),
    stop,
    kill: stop,
    async start() {
      server = await listenHttp({ port, ...http }, (request, reply) => receive(front, request, reply));
    },
  };
}

type Front = {
  service: Service;
  tokens: Map<string, string>;
  discovery: Discovery;
  url: string;
  schemes: Scheme[];
  refusedLogins: string[];
};

async function receive(front: Front, request: HttpRequest, reply: HttpReply): Promise<void> {
  const { service, discovery } = front;
  const { store, limits } = service.world;
  const path = request.path.split("?")[0] ?? "";
  const kind = servicePath(path, discovery);
  if (kind && request.method !== "POST") return redirected(discovery, reply);
  if (!kind && !/^\/ews\/exchange\.asmx$/i.test(path)) return reply.whole(404, {}, "");
  const login = logIn({ store, schemes: front.schemes, tokens: front.tokens }, request);
  if (!("user" in login)) {
    if (login.tried !== undefined) front.refusedLogins.push(login.tried);
    return reply.whole(401, { "WWW-Authenticate": login.challenge }, "");
  }
  if (kind) return discover({ store, discovery, url: front.url, schema: service.style.schema }, kind, request, reply);
  if (request.body.length > limits.requestBytes) return reply.whole(413, { Connection: "close" }, "");
  if (request.method !== "POST") return reply.whole(200, { "Content-Type": "text/html" }, "<html>Service</html>");
  return serve(service, request, login.user, reply);
}
