/**
 * A fake Exchange server for tests: EWS over real sockets, faithful to Microsoft's documentation as far as mail goes, with every
 * fault on command. A client nobody here wrote (exchangelib) checks that it is honest.
 */
import { makeCertificates } from "../certificates.ts";
import type { Limits, Sent, World } from "./ask.ts";
import { type Faults, newFaults } from "./faults.ts";
import { type HttpReply, type HttpRequest, type HttpServer, listenHttp } from "./http.ts";
import { logIn, type Scheme } from "./login.ts";
import type { Beat } from "./notify.ts";
import { type Call, serve, type Service } from "./service.ts";
import type { Style } from "./soap.ts";
import {
  addItem,
  folderAt,
  folderNamed,
  type Item,
  type Mailbox,
  moveItem,
  newFolder,
  newMailbox,
  newStore,
  removeItem,
  type Store,
} from "./store.ts";
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

export type NewMessage = { receivedAt?: Date; isRead?: boolean; itemClass?: string; isDraft?: boolean };

export type ExchangeItem = {
  id: string;
  raw: Buffer;
  subject: string;
  isRead: boolean;
  isDraft: boolean;
  itemClass: string;
  categories: string[];
  folder: string;
  receivedAt: Date;
};

export type Exchange = {
  name: string;
  host: string;
  port: number;
  url: string;
  ca: string | undefined;
  /** A token that logs this user in. */
  tokens: { accept(token: string, address: string): void; forget(token: string): void };
  addUser(
    address: string,
    password: string,
    more?: { login?: string; delegates?: string[]; impersonators?: string[] },
  ): Promise<void>;
  /** Delivers a message; resolves with the item's id. */
  append(address: string, folder: string, raw: Buffer | string, more?: NewMessage): Promise<string>;
  appendMany(address: string, folder: string, raws: (Buffer | string)[]): Promise<string[]>;
  /** Makes a folder by its path below the top: "Inbox/Orders". Resolves with its id. */
  createFolder(address: string, path: string, folderClass?: string): Promise<string>;
  /** The id of a folder, by distinguished name or path. */
  folderId(address: string, folder: string): string;
  remove(address: string, id: string): void;
  /** Moves as the mailbox's owner would; the item has the returned id then. */
  move(address: string, id: string, folder: string): string;
  /** By arrival. */
  items(address: string, folder: string): ExchangeItem[];
  sent: Sent[];
  calls: Call[];
  /** The hanging connections, each with the number of its subscriptions. */
  streams(): number[];
  /** How many subscriptions there are, streamed or not. */
  subscriptions(): number;
  connections(): number;
  faults: Faults;
  limits: Limits;
  /** May be changed at any time. */
  schemes: Scheme[];
  setPassword(address: string, password: string, more?: { expired?: boolean }): void;
  invalidateSyncStates(): void;
  /** Ends every subscription, as a restart of the server does; open streams say so. */
  expireSubscriptions(): void;
  /** Every subscription has lost events. */
  missEvents(): void;
  stopHeartbeats(): void;
  startHeartbeats(): void;
  rejectStreaming(reject?: boolean): void;
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

/** Starts a server without mailboxes on a free port. */
export async function startExchange(options: ExchangeOptions = {}): Promise<Exchange> {
  const certificates = options.tls ? await makeCertificates() : undefined;
  const { build, schema } = BUILDS[options.version ?? "2016"] ?? { build: [15, 1, 2507, 6], schema: "V2017_07_11" };
  const store = newStore();
  const subscriptions = newSubscriptions();
  store.happened = subscriptions.happened;
  const limits: Limits = { connections: 10, subscriptions: 5000, requestBytes: 64e6, messageBytes: 36e6 };
  const world: World = { store, subscriptions, limits, sent: [], generation: 1, build };
  const beat: Beat = {
    heartbeatMs: options.heartbeatMs ?? 45_000,
    minuteMs: options.minuteMs ?? 60_000,
    heartbeats: true,
    streaming: true,
  };
  const style: Style = { prefix: options.prefix, build, schema };
  const { faults, take } = newFaults();
  const calls: Call[] = [];
  const service: Service = { world, style, beat, calls, take };
  const tokens = new Map<string, string>();
  const front: Front = { service, tokens, schemes: ["basic", "ntlm", "bearer"] };
  const http = { chunkBytes: options.chunkBytes, tls: certificates?.server };
  let server: HttpServer = await listenHttp({ port: 0, ...http }, (request, reply) => receive(front, request, reply));
  const { port } = server;
  const stop = async (): Promise<void> => {
    await server.stop();
    subscriptions.byId.clear();
    subscriptions.expire();
  };
  return {
    name: `a fake Exchange ${options.version ?? "2016"}`,
    host: "127.0.0.1",
    port,
    url: `http${options.tls ? "s" : ""}://127.0.0.1:${port}/EWS/Exchange.asmx`,
    ca: certificates?.ca,
    tokens: {
      accept: (token, address) => void tokens.set(token, address),
      forget: (token) => void tokens.delete(token),
    },
    ...mailControls(store),
    sent: world.sent,
    calls,
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
    invalidateSyncStates: () => void world.generation++,
    expireSubscriptions: () => subscriptions.expire(),
    missEvents() {
      for (const one of subscriptions.byId.values()) {
        one.missed = true;
        one.stream?.wake(one);
      }
    },
    stopHeartbeats: () => void (beat.heartbeats = false),
    startHeartbeats: () => void (beat.heartbeats = true),
    rejectStreaming: (reject = true) => void (beat.streaming = !reject),
    disconnectAll: () => server.disconnectAll(),
    stop,
    kill: stop,
    async start() {
      server = await listenHttp({ port, ...http }, (request, reply) => receive(front, request, reply));
    },
  };
}

type Front = { service: Service; tokens: Map<string, string>; schemes: Scheme[] };

async function receive(front: Front, request: HttpRequest, reply: HttpReply): Promise<void> {
  const { service } = front;
  const { store, limits } = service.world;
  if (!/^\/ews\/exchange\.asmx$/i.test(request.path.split("?")[0] ?? "")) return reply.whole(404, {}, "");
  const login = logIn({ store, schemes: front.schemes, tokens: front.tokens }, request);
  if (!("user" in login)) return reply.whole(401, { "WWW-Authenticate": login.challenge }, "");
  if (request.body.length > limits.requestBytes) return reply.whole(413, { Connection: "close" }, "");
  if (request.method !== "POST") return reply.whole(200, { "Content-Type": "text/html" }, "<html>Service</html>");
  return serve(service, request, login.user, reply);
}

type MailControls = Pick<
  Exchange,
  "addUser" | "append" | "appendMany" | "createFolder" | "folderId" | "remove" | "move" | "items" | "setPassword"
>;

function mailControls(store: Store): MailControls {
  const mailboxOf = (address: string): Mailbox => {
    const mailbox = store.mailboxes.get(address.toLowerCase());
    if (!mailbox) throw new Error(`There is no mailbox ${address}`);
    return mailbox;
  };
  const itemOf = (address: string, id: string): Item => {
    const item = store.items.get(id);
    if (item?.folder.mailbox !== mailboxOf(address)) throw new Error(`${address} has no item ${id}`);
    return item;
  };
  const append = async (address: string, folder: string, raw: Buffer | string, more: NewMessage = {}) =>
    addItem(store, folderAt(mailboxOf(address), folder), { ...more, raw: Buffer.from(raw) }, true).id;
  return {
    async addUser(address, password, more = {}) {
      const mailbox = newMailbox(store, address, more.login ?? address, password);
      for (const login of more.delegates ?? []) mailbox.delegates.add(login);
      for (const login of more.impersonators ?? []) mailbox.impersonators.add(login);
    },
    append,
    appendMany: (address, folder, raws) => Promise.all(raws.map((raw) => append(address, folder, raw))),
    async createFolder(address, path, folderClass = "IPF.Note") {
      const mailbox = mailboxOf(address);
      const [, above, name = path] = /^(.*)\/([^/]*)$/.exec(path) ?? [];
      const parent = above === undefined ? folderNamed(mailbox, "msgfolderroot") : folderAt(mailbox, above);
      return newFolder(store, mailbox, { parent: parent ?? mailbox.root, name, folderClass }).id;
    },
    folderId: (address, folder) => folderAt(mailboxOf(address), folder).id,
    remove: (address, id) => removeItem(store, itemOf(address, id)),
    move(address, id, folder) {
      const item = itemOf(address, id);
      moveItem(store, item, folderAt(mailboxOf(address), folder));
      return item.id;
    },
    items: (address, folder) => [...folderAt(mailboxOf(address), folder).items.values()].map(seen),
    setPassword: (address, password, more = {}) =>
      void Object.assign(mailboxOf(address), { password, expired: more.expired ?? false }),
  };
}

function seen(item: Item): ExchangeItem {
  const { id, raw, isRead, isDraft, itemClass, receivedAt } = item;
  const categories = [...item.categories];
  const folder = item.folder.distinguished ?? item.folder.id;
  return { id, raw, subject: item.head.subject, isRead, isDraft, itemClass, categories, folder, receivedAt };
}
