/** What tests of a mail connection need: mailboxes on a server, and a watch that can be waited for. */
import type { Mailbox, MailboxOf } from "../../shared/contract/mailbox.ts";
import type { Arrival, Cursor, MessageRef } from "../../shared/contract/message.ts";
import { Problem } from "../../shared/contract/problem.ts";
import { Secret } from "../../shared/contract/secret.ts";
import { egress } from "../../shared/egress.ts";
import type { MailConnection, WatchEvent } from "../../shared/mail/mail.ts";
import type { MailDeps } from "../../shared/mail/open.ts";
import { openMailbox } from "../../shared/mail/open.ts";
import { PASSWORD } from "../bodies.ts";
import type { MailServer } from "../servers/mail-server.ts";
import { waitingRoom } from "../servers/waiting.ts";

export type Wish = Partial<MailboxOf<"imap">["receive"]>;

/** A user's mailbox on a server, over TLS where the server has it. */
export function mailboxOn(server: MailServer, user: string, wish: Wish = {}): MailboxOf<"imap"> {
  const safe = server.imapsPort > 0;
  return registered(`box-${user}`, "test@example.com", {
    protocol: "imap",
    host: server.host,
    port: safe ? server.imapsPort : server.imapPort,
    tls: safe ? "implicit" : "none",
    ...(server.ca === undefined ? {} : { ca: server.ca }),
    auth: { user, password: new Secret(PASSWORD) },
    folders: ["INBOX"],
    since: "now",
    mode: "push",
    poll: { everySeconds: 10 },
    processLock: false,
    afterDelivery: "leave",
    ...wish,
  });
}

/** A mailbox as the service keeps it, whose endpoint nobody asks. */
export function registered<R extends Mailbox["receive"]>(
  id: string,
  address: string,
  receive: R,
): Mailbox & { receive: R } {
  const now = new Date().toISOString();
  return {
    id,
    address,
    receive,
    deliver: { url: "http://127.0.0.1:1/", dialect: "webhook", format: "full", maxAttachmentBytes: 1_000_000 },
    paused: false,
    endpointGone: false,
    revision: 1,
    createdAt: now,
    updatedAt: now,
  };
}

/** Quick enough for tests, slow enough for a busy machine. */
export function depsFor(wish: Partial<MailDeps> = {}): MailDeps {
  return { egress: egress("allow"), timeouts: { command: 10_000 }, probeMs: 60_000, folderPollMs: 300, ...wish };
}

export type Watch = {
  connection: MailConnection;
  arrivals: Arrival[];
  signs: WatchEvent[];
  /** The messages so far, in the order of their arrival. */
  messages(): MessageRef[];
  /** The last cursor of each folder. */
  cursors(): Cursor[];
  /** Resolves once so many messages have arrived. */
  until(count: number, timeoutMs?: number): Promise<MessageRef[]>;
  /** Resolves once it is connected and compared. */
  connected(): Promise<void>;
  /** How the watch ended: undefined when it returned, else what it threw. */
  ended(timeoutMs?: number): Promise<unknown>;
  /** What it says of folders that it cannot open, whether it goes on with the others or ends. */
  folderFault(): Promise<unknown>;
  /** Aborts the watch and waits for its end. */
  stop(): Promise<void>;
};

/** Begins to watch and keeps what comes. After an error that is `passing` it begins again where it was. */
export function watchOn(
  mailbox: Mailbox,
  deps: MailDeps = depsFor(),
  cursors: Cursor[] = [],
  passing: (error: unknown) => boolean = () => false,
): Watch {
  const connection = openMailbox[mailbox.receive.protocol](deps, mailbox);
  const stop = new AbortController();
  const room = waitingRoom();
  const arrivals: Arrival[] = [];
  const signs: WatchEvent[] = [];
  let end: { error: unknown } | undefined;
  const messages = () => arrivals.flatMap((one) => one.messages);
  const told = () => `${messages().length} messages arrived, it ended with ${String(end?.error ?? "nothing")}`;
  const tell = (sign: WatchEvent) => {
    signs.push(sign);
    room.wake();
  };
  const lastCursors = () => [...new Map(arrivals.map(({ cursor }) => [cursor.folder, cursor])).values()];
  const running = (async () => {
    while (!end) {
      try {
        const from = arrivals.length > 0 ? lastCursors() : cursors;
        for await (const arrival of connection.watch(from, tell, stop.signal)) {
          arrivals.push(arrival);
          room.wake();
        }
        end = { error: undefined };
      } catch (error) {
        if (!passing(error)) end = { error };
      }
    }
    room.wake();
  })();
  const orEnded = <T>(value: T | undefined): T | undefined => {
    if (value === undefined && end) throw end.error ?? new Error("The watch ended");
    return value;
  };
  return {
    connection,
    arrivals,
    signs,
    messages,
    cursors: lastCursors,
    until: (count, timeoutMs = 60_000) =>
      room.until(() => orEnded(messages().length >= count ? messages() : undefined), timeoutMs, told),
    connected: async () => {
      await room.until(() => orEnded(signs.find((one) => one.kind === "connected")), 60_000, told);
    },
    ended: async (timeoutMs = 60_000) => (await room.until(() => end, timeoutMs, told)).error,
    folderFault: () =>
      room.until(
        () => signs.flatMap((one) => (one.kind === "folders" && one.problem ? [one.problem] : []))[0] ?? end?.error,
        60_000,
        told,
      ),
    stop: async () => {
      stop.abort();
      await running;
      await connection.close();
    },
  };
}

/** Everything an async generator yields. */
export async function all<T>(source: AsyncIterable<T> | Iterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const one of source) list.push(one);
  return list;
}

/** True for a Problem of this code (and this retry). */
export function isProblem(code: string, retry?: string): (error: unknown) => boolean {
  return (error) => error instanceof Problem && error.code === code && (retry === undefined || error.retry === retry);
}

/** A user's mailbox by POP3, looked at several times a second. */
export function maildropOn(
  server: { host: string; ca: string | undefined; pop3Port: number; pop3sPort: number },
  user: string,
  wish: Partial<MailboxOf<"pop3">["receive"]> = {},
): MailboxOf<"pop3"> {
  const safe = server.pop3sPort > 0;
  return registered(`drop-${user}`, "test@example.com", {
    protocol: "pop3",
    host: server.host,
    port: safe ? server.pop3sPort : server.pop3Port,
    tls: safe ? "implicit" : "none",
    ...(server.ca === undefined ? {} : { ca: server.ca }),
    auth: { user, password: new Secret(PASSWORD) },
    since: "now",
    mode: "poll",
    poll: { everySeconds: 0.2 },
    processLock: false,
    ...wish,
  });
}

/** A user's mailbox on an Exchange server. */
export function exchangeMailboxOn(
  server: { host: string; port: number; ca: string | undefined },
  address: string,
  wish: Partial<MailboxOf<"ews">["receive"]> = {},
): MailboxOf<"ews"> {
  const { host, port, ca } = server;
  const tls = ca === undefined ? "none" : "implicit";
  return ewsMailbox(address, { host, port, tls, ...(ca !== undefined && { ca }), ...wish });
}

/** A mailbox of this address, received by ews as wished. */
export function ewsMailbox(address: string, wish: Partial<MailboxOf<"ews">["receive"]>): MailboxOf<"ews"> {
  return registered(`box-${address}`, address, {
    protocol: "ews",
    tls: "implicit",
    auth: { user: address, password: new Secret(PASSWORD) },
    access: "own",
    folders: ["INBOX"],
    since: "now",
    mode: "push",
    poll: { everySeconds: 10 },
    processLock: false,
    afterDelivery: "leave",
    ...wish,
  });
}
