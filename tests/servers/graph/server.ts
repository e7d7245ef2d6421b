/**
 * A fake Microsoft Graph for tests, as far as mail goes: real sockets, faithful to what Microsoft's documents and those
 * who run it say, with every fault on command. Its login server stands beside it on a port of its own.
 */
import { type HttpServer, listenHttp } from "../exchange/http.ts";
import { type MailControls, mailControls } from "./controls.ts";
import { type Faults, newFaults, type Take } from "./faults.ts";
import { type LoginService, receive, receiveLogin, receiveUpload, type TokenRequest } from "./front.ts";
import { type Limits, newGate } from "./gate.ts";
import {
  addApplication,
  type Application,
  type Grant,
  issueAccessToken,
  issueRefreshToken,
  newLogin,
} from "./login/applications.ts";
import { type Death, newDeltaTokens } from "./mail/delta-tokens.ts";
import type { Delivered, PushSettings } from "./push/deliver.ts";
import { type LifecycleEvent, newPush, type Subscription } from "./push/subscriptions.ts";
import type { Sent } from "./sending/kept.ts";
import type { UploadRequest } from "./sending/uploads.ts";
import { newStore } from "./store/store.ts";
import { findUser } from "./users.ts";
import type { Logged, Service } from "./serve.ts";
import { BEHAVIOUR, type Behaviour, type Refusal, type World } from "./world.ts";

export type GraphOptions = {
  behaviour?: Partial<Behaviour>;
  /** A verified domain of the tenant; users without one get it. */
  domain?: string;
  /** Bodies go out in HTTP chunks of this size. */
  chunkBytes?: number;
};

export type GraphServer = MailControls & {
  name: string;
  host: string;
  /** http://127.0.0.1:PORT, without /v1.0. */
  root: string;
  /** http://127.0.0.1:PORT of the login server. */
  tokenRoot: string;
  /** The tenant's id. */
  tenant: string;
  domain: string;
  /** Of the application that is there from the beginning. */
  clientId: string;
  clientSecret: string;
  /** Its record; its permissions, secrets and certificates may be changed at any time. */
  application: Application;
  addApplication(wish?: Partial<Application>): Application;
  /** How long access tokens are good. */
  tokenSeconds: number;
  /** An access token as the login server gives it: of the application, or of a user with these scopes. */
  accessToken(wish?: { user?: string; permissions?: string[]; audience?: string; clientId?: string }): string;
  /** A user has consented: the first refresh token. */
  consent(user: string, wish?: { scopes?: string[]; clientId?: string }): string;
  /** What a user has consented to ends, with this AADSTS number. */
  revoke(user: string, aadsts?: number): void;
  /** Every access token given so far is refused from now on. */
  forgetTokens(): void;
  faults: Faults;
  behaviour: Behaviour;
  limits: Limits;
  /** How many delta tokens are kept; the field knows of as few as four for each chain of rounds. */
  deltaLimits: { ofChain: number; ofAll: number };
  /** Every request to Graph, in order. */
  requests: Logged[];
  tokenRequests: TokenRequest[];
  /** The most requests that one application had in one mailbox at once, refused ones among them. */
  mostAtOnce(): number;
  /** The content of this message is refused, by immutable id; without an error it is well again. */
  refuseContent(id: string, error: Refusal | undefined): void;
  /** Delta tokens given so far die: all, those in one kind of link, or those of one user. */
  killDeltaTokens(death: Death, which?: { kind?: "skip" | "delta"; user?: string }): void;
  /** What left for its recipients, in order. */
  sent: Sent[];
  /** http://127.0.0.1:PORT where the pieces of large files go. */
  uploadRoot: string;
  uploadRequests: UploadRequest[];
  /** The live subscriptions. */
  subscriptions(): Subscription[];
  push: {
    settings: PushSettings;
    /** Every request to an address of a subscription, in order. */
    log: Delivered[];
    pace(url: string): "normal" | "slow" | "drop";
    /** So many of the coming events are lost without a word. */
    lose(events: number): void;
    /** Tells the lifecycle address of a subscription. */
    lifecycle(id: string, event: LifecycleEvent): void;
    /** The time of a subscription is over. */
    expire(id: string): void;
    /** Sends a notification as from this subscription, whatever it says. */
    tell(url: string, notification: object): void;
  };
  /** Who signs in at the next authorization; without a user, or with an error, it ends with a refusal. */
  signIn(user: string | undefined, error?: string): void;
  connections(): number;
  disconnectAll(): void;
  stop(): Promise<void>;
  kill(): Promise<void>;
  /** On the same ports; mail, tokens and delta tokens outlast it. */
  start(): Promise<void>;
};

function newWorld({ domain = "example.com", behaviour }: GraphOptions): World {
  const world: World = {
    root: "",
    store: newStore(),
    login: newLogin(domain),
    behaviour: { ...BEHAVIOUR, ...behaviour },
    gate: newGate(),
    deltaTokens: newDeltaTokens(),
    refused: new Map(),
    uploadRoot: "",
    uploads: new Map(),
    sent: [],
    push: newPush(),
  };
  world.store.happened = (one) => world.push.happened(world.login.tenant, one);
  return world;
}

/** Graph, its login server and the one for large files, each on a free port that it keeps. */
async function listening(world: World, take: Take, chunkBytes: number | undefined) {
  const service: Service = { world, take, requests: [] };
  const loginService: LoginService = { login: world.login, origin: "", take, requests: [] };
  const uploads = { world, take, requests: [] as UploadRequest[] };
  const listen = (port: number, loginPort: number, uploadPort: number) =>
    Promise.all([
      listenHttp({ port, chunkBytes }, (request, reply) => receive(service, request, reply)),
      listenHttp({ port: loginPort }, (request, reply) => receiveLogin(loginService, request, reply)),
      listenHttp({ port: uploadPort }, (request, reply) => receiveUpload(uploads, request, reply)),
    ]);
  let servers: HttpServer[] = await listen(0, 0, 0);
  const [port = 0, loginPort = 0, uploadPort = 0] = servers.map((one) => one.port);
  world.root = `http://127.0.0.1:${port}`;
  loginService.origin = `http://127.0.0.1:${loginPort}`;
  world.uploadRoot = `http://127.0.0.1:${uploadPort}`;
  world.login.resources.push(world.root);
  const stop = async () => {
    world.push.deliveries.stop();
    await Promise.all(servers.map((one) => one.stop()));
  };
  return {
    tokenRoot: loginService.origin,
    requests: service.requests,
    tokenRequests: loginService.requests,
    uploadRequests: uploads.requests,
    connections: () => servers.reduce((sum, one) => sum + one.open(), 0),
    disconnectAll: () => servers.forEach((one) => one.disconnectAll()),
    stop,
    kill: stop,
    async start() {
      servers = await listen(port, loginPort, uploadPort);
    },
  };
}

/** Starts a server without mailboxes on free ports. */
export async function startGraphServer(options: GraphOptions = {}): Promise<GraphServer> {
  const world = newWorld(options);
  const { store, login, gate } = world;
  const application = addApplication(login);
  const { faults, take } = newFaults();
  const faces = await listening(world, take, options.chunkBytes);
  const controls = mailControls(store, login.domain);
  return {
    name: "a fake Graph",
    host: "127.0.0.1",
    root: world.root,
    uploadRoot: world.uploadRoot,
    ...faces,
    domain: login.domain,
    tenant: login.tenant,
    clientId: application.clientId,
    clientSecret: application.secrets[0] ?? "",
    application,
    addApplication: (wish) => addApplication(login, wish),
    get tokenSeconds() {
      return login.tokenSeconds;
    },
    set tokenSeconds(seconds) {
      login.tokenSeconds = seconds;
    },
    ...controls,
    ...loginControls(world, application, controls),
    ...pushControls(world),
    faults,
    behaviour: world.behaviour,
    limits: gate.limits,
    deltaLimits: world.deltaTokens.limits,
    mostAtOnce: () => gate.most(),
    sent: world.sent,
    refuseContent: (id, error) => void (error ? world.refused.set(id, error) : world.refused.delete(id)),
    killDeltaTokens(death, { kind, user } = {}) {
      const mailbox = user === undefined ? undefined : findUser(store, controls.addressOf(user));
      world.deltaTokens.kill(death, { ...(kind && { kind }), ...(mailbox && { mailbox }) });
    },
  };
}

function loginControls({ login, store, root }: World, application: Application, { addressOf }: MailControls) {
  const userNamed = (user: string) => {
    const mailbox = findUser(store, addressOf(user));
    if (!mailbox) throw new Error(`There is no user ${user}`);
    return mailbox;
  };
  return {
    accessToken: (wish: { user?: string; permissions?: string[]; audience?: string; clientId?: string } = {}) => {
      const user = wish.user === undefined ? undefined : userNamed(wish.user);
      const clientId = wish.clientId ?? application.clientId;
      const given = login.applications.get(clientId) ?? application;
      const permissions = wish.permissions ?? (user ? given.scopes : given.permissions);
      return issueAccessToken(login, { clientId, user, permissions, audience: wish.audience ?? root });
    },
    consent: (user: string, wish: { scopes?: string[]; clientId?: string } = {}) => {
      const clientId = wish.clientId ?? application.clientId;
      const scopes = wish.scopes ?? application.scopes;
      const grant: Grant = { clientId, user: userNamed(user), scopes, revoked: undefined };
      return issueRefreshToken(login, grant);
    },
    revoke: (user: string, aadsts = 50173) => {
      const mailbox = userNamed(user);
      for (const grant of login.refreshTokens.values()) if (grant.user === mailbox) grant.revoked = aadsts;
    },
    forgetTokens: () => login.accessTokens.clear(),
    signIn: (user: string | undefined, error?: string) =>
      void (login.signsIn = { user: user === undefined ? undefined : userNamed(user), error }),
  };
}

function pushControls({ push, login }: World) {
  const { settings, log, pace, tell } = push.deliveries;
  const named = (id: string) => {
    const one = push.byId.get(id);
    if (!one) throw new Error(`There is no subscription ${id}`);
    return one;
  };
  return {
    subscriptions: () => {
      push.expire();
      return [...push.byId.values()];
    },
    push: {
      settings,
      log,
      pace,
      tell,
      lose: (events: number) => void (push.loses = events),
      lifecycle: (id: string, event: LifecycleEvent) => push.lifecycle(login.tenant, named(id), event),
      expire: (id: string) => void (named(id).expiresAt = 0),
    },
  };
}
