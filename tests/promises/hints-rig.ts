/** What the promises of listening to Exchange need to be put to the test: a server, the hub of hints, and followers that can be waited for. */
import { Secret } from "../../shared/contract/secret.ts";
import { notificationPool, type PoolLimits } from "../../shared/mail/ews/notifications/pool.ts";
import { type EwsSession, openEws } from "../../shared/mail/ews/client/session.ts";
import { shutdownReason } from "../../shared/run.ts";
import { PASSWORD } from "../bodies.ts";
import { type Exchange, type ExchangeOptions, startExchange } from "../servers/exchange/server.ts";
import { eventually, waitingRoom } from "../servers/waiting.ts";
import { exchangeDeps, exchangeMailbox, type EwsWish } from "./exchange-rig.ts";

export const SERVICE = "svc@example.com";

/** Times for tests: nothing waits longer than it must. */
const QUICK: Partial<PoolLimits> = {
  silenceMs: 60_000,
  gatherMs: 100,
  settleMs: 300,
  patienceMs: 5000,
  backoff: () => 50,
  everyMs: 100,
  againMs: 60_000,
};

/** Without `access` everybody has a login of their own. */
function mailboxAt(server: Exchange, address: string, wish: EwsWish) {
  const auth = { user: wish.access ? SERVICE : address, password: new Secret(PASSWORD) };
  return exchangeMailbox(address, server.url, { scheme: "basic", auth, ...wish });
}

/** A server with a hub beside it, and what follows by them. */
export async function hintsRig(limits: Partial<PoolLimits> = {}, options: ExchangeOptions = {}) {
  const signal = AbortSignal.timeout(300_000);
  const server = await startExchange({ heartbeatMs: 200, ...options });
  await server.addUser(SERVICE, PASSWORD);
  const hints = notificationPool({ ...QUICK, ...limits });
  const deps = exchangeDeps();
  const followers: { stop(): Promise<void> }[] = [];
  const known = new Set<string>();
  const add = async (address: string) => {
    known.add(address);
    await server.addUser(address, PASSWORD, { impersonators: [SERVICE], delegates: [SERVICE] });
  };

  async function follow(
    address: string,
    wish: EwsWish = {},
    folders: (session: EwsSession) => "all" | string[] = () => ["inbox"],
  ) {
    if (!known.has(address)) await add(address);
    const session = await openEws(deps, mailboxAt(server, address, wish), signal);
    const room = waitingRoom();
    const stop = new AbortController();
    const heard: (string[] | "all")[] = [];
    const how: boolean[] = [];
    let beats = 0;
    let end: { error: unknown } | undefined;
    const wanted = folders(session);
    const list = wanted === "all" ? wanted : wanted.map((name) => session.folder(name));
    const running = hints
      .follow(
        session,
        list,
        (stirred) => {
          heard.push(stirred);
          room.wake();
        },
        (sign) => {
          if (sign.kind === "how") how.push(sign.push);
          else beats++;
          room.wake();
        },
        stop.signal,
      )
      .catch((error: unknown) => {
        end = { error };
        room.wake();
      });
    const tell = () =>
      `hints ${JSON.stringify(heard)}, how ${how.join()}, ended with ${String(end?.error ?? "nothing")}`;
    const until = async <T>(find: () => T | undefined | false) =>
      room.until(
        () => {
          const found = find();
          if (!found && end) throw end.error;
          return found || undefined;
        },
        60_000,
        tell,
      );
    const one = {
      session,
      heard,
      how,
      beats: () => beats,
      /** Resolves when there are so many hints. */
      hinted: (count: number) => until(() => heard.length >= count),
      /** Resolves when the folder was hinted at, or all. */
      hintedAt: (folder: string, from: number) =>
        until(() => heard.slice(from).some((stirred) => stirred === "all" || stirred.includes(folder))),
      until,
      ended: async () => (await room.until(() => end, 60_000, tell)).error,
      async stop() {
        stop.abort(shutdownReason("enough"));
        await running;
        await session.close();
      },
    };
    followers.push(one);
    return one;
  }

  return {
    server,
    add,
    follow,
    async over() {
      await Promise.all(followers.map((one) => one.stop()));
      await server.stop();
    },
  };
}
export type HintsRig = Awaited<ReturnType<typeof hintsRig>>;

/** Resolves once it holds; for what only the server knows. */
export const soon = (what: string, holds: () => boolean) => eventually(holds, what, 20_000, 10);
