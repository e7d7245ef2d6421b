/**
 * A CRM of the Creatio family, as far as an email listener meets it: a real HTTP server with the callback service, the life cycle of
 * a mailbox that is saved, the minutely fail-over job, saving in the background under a lock by Message-ID, and dedupe.
 */
import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type Email,
  type MailboxState,
  readLoadEmailCommand,
  readMailboxInfo,
  readMailboxState,
  Refused,
} from "./crm-contract.ts";
import { eventually } from "./waiting.ts";

/** One accepted ProcessFullEmail with a mail in it. */
export type Arrived = { at: number; mailbox: string; email: Email; bytes: number };
/** A mail as the CRM has it: once by Message-ID, with the mailboxes it came from. */
export type Saved = { email: Email; mailboxes: Set<string> };
/** `hang` never answers. */
export type CrmAnswer = { status?: number; text?: string; delayMs?: number; hang?: true };
export type Called = { path: string; method: string; status: number; text: string };

export type CrmMailbox = {
  id: string;
  /** SynchronizationCredentials; a test may change them between calls. */
  credentials: Record<string, unknown>;
  stopped: boolean;
  error: { className: string; message: string } | null;
};

export type CrmOptions = {
  /** The base URL of the listener, with `/api/listeners`; asked for at each call, as a restarted service has another port. */
  listener: () => string;
  headers?: Record<string, string>;
  /** What the callback setting of this installation ends in. */
  ending?: string;
  prefix?: string;
  /** How long saving one mail takes in the background. */
  saveMs?: number;
};

export type Crm = {
  readonly endpoint: string;
  readonly mailboxes: Map<string, CrmMailbox>;
  /** Requests that were accepted, in order. */
  readonly arrived: readonly Arrived[];
  readonly saved: ReadonlyMap<string, Saved>;
  /** Copies given up because the same mail was being saved at that moment. */
  readonly lost: readonly string[];
  /** Why callbacks were refused by the reader. */
  readonly violations: readonly string[];
  readonly states: readonly MailboxState[];
  readonly tokensAsked: readonly string[];
  /** Calls of the CRM and their answers. */
  readonly calls: readonly Called[];
  /** What to answer instead of working; undefined works. */
  fault: (method: string, raw: string) => CrmAnswer | undefined;
  /** The fresh token of a mailbox, when the listener asks for one. */
  freshToken: (mailbox: CrmMailbox) => string | Promise<string>;
  credentials(wish: Wish): Record<string, unknown>;
  /** Saves a mailbox as the settings page does: validate, then synchronize and recreate at the same time. */
  addMailbox(wish: Wish): Promise<CrmMailbox>;
  call(path: string, body?: unknown, method?: string): Promise<Called>;
  /** One round of the fail-over job. */
  failJob(): Promise<void>;
  /** The job every so many ms until the function returned is called. */
  everyMinute(ms: number): () => Promise<void>;
  /** Forgets what was accepted and not saved yet, as a restart does. */
  restart(): Promise<void>;
  stop(): Promise<void>;
  start(): Promise<void>;
};

export type Wish = {
  id?: string;
  user: string;
  address?: string;
  port: number;
  password?: string;
  token?: string;
  folders?: string[];
  mark?: boolean;
  context?: string;
  /** Members that say where the mailbox is, in place of those of an IMAP server. */
  server?: Record<string, unknown>;
};

const IMAP = "844f0837-eaa0-4f40-b965-71f5db9eae6e";
const WEEK = "2d480351-d1ae-4f41-a0ac-9bd0b1f4d0a5";
const MINUTE_MS = 60_000;

/** Starts a CRM on a free port of 127.0.0.1. */
export async function startCrm(options: CrmOptions): Promise<Crm> {
  const { ending = "NewEmail", prefix = "/0", saveMs = 150 } = options;
  const [arrived, lost, violations, states, tokensAsked, calls]: [
    Arrived[],
    string[],
    string[],
    MailboxState[],
    string[],
    Called[],
  ] = [[], [], [], [], [], []];
  const saved = new Map<string, Saved>();
  const mailboxes = new Map<string, CrmMailbox>();
  const locks = new Set<string>();
  let run = 0;
  let server: Server | undefined;
  let port = 0;

  /** A background task: the mail is saved a moment later, unless the same one is being saved or the CRM restarts before. */
  const save = async (mailbox: string, email: Email): Promise<void> => {
    const id = email.MessageId ?? "";
    if (id === "" || !mailboxes.has(mailbox)) return;
    if (locks.has(id)) return void lost.push(`${id} of ${mailbox}`);
    const mine = run;
    locks.add(id);
    await sleep(saveMs);
    if (run !== mine) return;
    locks.delete(id);
    const known = saved.get(id) ?? { email, mailboxes: new Set<string>() };
    known.mailboxes.add(mailbox);
    saved.set(id, known);
  };

  const methods: Record<string, (raw: string) => Promise<void> | void> = {
    ProcessFullEmail(raw) {
      const { emails, info } = readLoadEmailCommand(raw);
      if (emails.length > 1) violations.push("more than one mail in a request");
      for (const email of emails) {
        const mailbox = info.MailboxId ?? "";
        arrived.push({ at: Date.now(), mailbox, email, bytes: raw.length });
        void save(mailbox, email);
      }
    },
    ProcessMailboxState(raw) {
      const state = readMailboxState(raw);
      states.push(state);
      const mailbox = mailboxes.get(state.MailboxId);
      if (!mailbox) return;
      const { ExceptionClassName: className, ExceptionMessage: message } = state;
      mailbox.error = state.Avaliable ? null : { className: className ?? "", message: message ?? "" };
    },
    // The new token reaches the listener before this request is answered.
    async RefreshToken(raw) {
      const { MailboxId } = readMailboxInfo(raw);
      const mailbox = mailboxes.get(MailboxId);
      tokensAsked.push(MailboxId);
      if (!mailbox) return;
      mailbox.credentials["AccessToken"] = await crm.freshToken(mailbox);
      await crm.call("update", [mailbox.credentials]);
    },
  };

  async function take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const raw = Buffer.concat(chunks).toString();
    const [, called = ""] = /ExchangeListenerService\.svc\/(\w+)$/.exec(request.url ?? "") ?? [];
    const fault = crm.fault(called, raw);
    if (fault?.hang) return;
    if (fault?.delayMs) await sleep(fault.delayMs);
    const end = (status: number, text = "") => response.writeHead(status).end(text);
    if (fault?.status) return void end(fault.status, fault.text);
    const method = methods[called];
    const path = `${prefix}/ServiceModel/ExchangeListenerService.svc/${called}`;
    if (!method || request.url !== path) return void end(404, "no such method");
    if (request.method !== "POST" || !/^application\/json\b/.test(request.headers["content-type"] ?? "")) {
      return void end(415, "not JSON");
    }
    try {
      await method(raw);
      end(200);
    } catch (error) {
      violations.push(`${called}: ${error instanceof Error ? error.message : String(error)}`);
      end(error instanceof Refused ? error.status : 500, "The server encountered an error processing the request.");
    }
  }

  const crm: Crm = {
    get endpoint() {
      return `http://127.0.0.1:${port}${prefix}/ServiceModel/ExchangeListenerService.svc/${ending}`;
    },
    mailboxes,
    arrived,
    saved,
    lost,
    violations,
    states,
    tokensAsked,
    calls,
    fault: () => undefined,
    freshToken: () => randomUUID(),
    credentials: (wish) => credentialsOf(crm.endpoint, wish),
    async addMailbox(wish) {
      const credentials = crm.credentials(wish);
      const validated = await crm.call("validate", credentials);
      const info = JSON.parse(validated.text) as { IsValid: boolean; Message: string | null; Data: string | null };
      if (!info.IsValid) throw new Error(`The settings page shows: ${info.Message}`);
      JSON.parse(info.Data ?? "null");
      const mailbox = { id: String(credentials["Id"]), credentials, stopped: false, error: null };
      mailboxes.set(mailbox.id, mailbox);
      await Promise.all([
        crm.call("synchronize", { Credentials: credentials, Filters: `{"Period":"${WEEK}"}` }),
        crm.call("recreate", [credentials]),
      ]);
      return mailbox;
    },
    async call(path, body, method = body === undefined ? "GET" : "POST") {
      const response = await fetch(`${options.listener()}/${path}`, {
        method,
        headers: { "content-type": "application/json; charset=utf-8", ...options.headers },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(60_000),
      });
      const called = { path, method, status: response.status, text: await response.text() };
      calls.push(called);
      return called;
    },
    async failJob() {
      const active = [...mailboxes.values()].filter((one) => !one.stopped);
      if (active.length === 0 || !(await isUp(crm))) return;
      const answer = await crm.call(
        "subscriptionsState",
        active.map(({ id }) => id.toUpperCase()),
      );
      const listed = JSON.parse(answer.text) as Record<string, { State: string }>;
      const known = new Map(Object.entries(listed).map(([id, { State }]) => [id.toLowerCase(), State]));
      const missing = active.filter(({ id }) => known.get(id) !== "exists");
      await Promise.all(missing.map((mailbox) => failOver(crm, mailbox)));
    },
    everyMinute(ms) {
      const over = new AbortController();
      const loop = async () => {
        while (!over.signal.aborted) {
          await crm.failJob().catch(() => undefined);
          await sleep(ms, undefined, { signal: over.signal }).catch(() => undefined);
        }
      };
      const running = loop();
      return async () => {
        over.abort();
        await running;
      };
    },
    async restart() {
      await crm.stop();
      run += 1;
      locks.clear();
      await crm.start();
    },
    async stop() {
      const closed = server && new Promise((resolve) => server?.close(resolve));
      server?.closeAllConnections();
      server = undefined;
      await closed;
    },
    async start() {
      const one = createServer((request, response) => void take(request, response));
      server = one;
      await new Promise<void>((resolve) => one.listen(port, "127.0.0.1", resolve));
      const address = one.address();
      port = typeof address === "object" && address ? address.port : port;
    },
  };
  await crm.start();
  return crm;
}

async function isUp(crm: Crm): Promise<boolean> {
  return crm.call("exists").then(
    ({ status }) => status === 200,
    () => false,
  );
}

async function attempt(work: () => Promise<Called>): Promise<void> {
  for (let tries = 0; tries < 5; tries++) {
    const done = await work().catch(() => undefined);
    if (done && done.status >= 200 && done.status < 300) return;
  }
}

/** What the job does for one mailbox: up to five times {exists; recreate}, then up to five times a load since the last mail. */
async function failOver(crm: Crm, mailbox: CrmMailbox): Promise<void> {
  await attempt(async () =>
    (await isUp(crm)) ? crm.call("recreate", [mailbox.credentials]) : Promise.reject(new Error("down")),
  );
  const dates = [...crm.saved.values()]
    .filter(({ mailboxes }) => mailboxes.has(mailbox.id))
    .map(({ email }) => Number(email.SendDateTimeStamp / 10_000n - 62_135_596_800_000n));
  const last = Math.max(Date.now() - 7 * 24 * 60 * MINUTE_MS, ...dates) - 5 * MINUTE_MS;
  const filters = JSON.stringify({ LoadFromDate: new Date(last).toISOString() });
  await attempt(() => crm.call("synchronize", { Credentials: mailbox.credentials, Filters: filters }));
}

function credentialsOf(endpoint: string, wish: Wish): Record<string, unknown> {
  const { id = randomUUID(), user, address = `${user}@example.com`, port, password, token, folders = ["INBOX"] } = wish;
  return {
    Id: id,
    SenderEmailAddress: address,
    UserName: user,
    Password: token === undefined ? (password ?? "correct horse") : null,
    UseOAuth: token !== undefined,
    AccessToken: token ?? "",
    ServiceUrl: "127.0.0.1",
    IsAutodiscover: false,
    AutodiscoverRedirectUrl: "",
    ServerTypeId: IMAP,
    Port: port,
    UseSsl: false,
    SecureOption: 0,
    FolderIds: folders,
    SubscriptionTtl: token === undefined ? 0 : 10,
    UseFullEmail: true,
    FeatureValues: { MarkEmailsAsSynchronized: wish.mark ?? false, UseBinaryData: true },
    PersonalMetrics: false,
    BpmEndpoint: endpoint,
    BpmUser: "Supervisor",
    BpmUserTimeZone: "Russian Standard Time",
    BpmUserWorkspace: "Default",
    Context: wish.context ?? '{"UserRequested":false,"HasError":false}',
    ...wish.server,
  };
}

/** Waits until the CRM has saved so many different mails; resolves with their subjects, sorted. */
export async function savedMails(crm: Crm, count: number, ms = 60_000): Promise<string[]> {
  await eventually(() => crm.saved.size >= count, `${count} mails in the CRM`, ms).catch((cause: unknown) => {
    const { saved, lost, violations } = crm;
    const found = `it has ${saved.size}, lost ${lost.length}, refused ${violations.join("; ")}`;
    throw new Error(`Not ${count} mails in the CRM: ${found}`, { cause });
  });
  return [...crm.saved.values()].map(({ email }) => email.Subject ?? "").toSorted();
}
