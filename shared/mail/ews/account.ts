/**
 * What all Exchange mailboxes of a process share: connections by login, EWS URLs that autodiscover found, and the times
 * before which Exchange wants no request.
 */
import { createHmac, randomBytes } from "node:crypto";
import { clock } from "../../time.ts";
import { cookieJar } from "./transport/cookies.ts";
import type { EwsAccount } from "./transport/http.ts";
import {
  type ConnectionPoolDeps,
  type ConnectionPool,
  connectionPool,
  type ServerTarget,
} from "../http/connection-pool.ts";
import { type ServiceUrlCache, serviceUrlCache } from "./service-url.ts";
import type { MailboxOf, UserAuth } from "../../contract/mailbox.ts";
import { VERSIONS } from "./soap/versions.ts";

/** What is the same for all requests of a login: its key and the certificates to trust. */
export type AccountOptions = { key: string; trust: Pick<ServerTarget, "ca" | "fingerprint"> };

export interface EwsAccounts {
  readonly serviceUrls: ServiceUrlCache;
  readonly backOff: BackOffTimes;
  /** A short code for a secret. It is useless outside this process. */
  mark(secret: string): string;
  /** The login's connections, shared by all who use it. Call `over` once; it closes them after the last user. */
  acquire(deps: ConnectionPoolDeps, of: AccountOptions): { account: EwsAccount; over: () => void };
}

/** Times before which the server wants no request. */
export interface BackOffTimes {
  until(key: string): Date | undefined;
  set(key: string, until: Date): void;
}

/** Created once in a process. It opens nothing before the first mailbox. */
export function ewsAccounts(): EwsAccounts {
  const key = randomBytes(32);
  const accounts = new Map<string, { account: EwsAccount; users: number; close: () => void }>();
  return {
    serviceUrls: serviceUrlCache(),
    backOff: backOffTimes(),
    mark: (secret) => createHmac("sha256", key).update(secret).digest("base64url").slice(0, 16),
    acquire(deps, of) {
      const entry = accounts.get(of.key) ?? { ...createAccount(deps, of), users: 0 };
      accounts.set(of.key, entry);
      entry.users++;
      let released = false;
      const release = () => {
        if (released) return;
        released = true;
        if (--entry.users > 0) return;
        accounts.delete(of.key);
        entry.close();
      };
      return { account: entry.account, over: release };
    },
  };
}

function createAccount(
  deps: ConnectionPoolDeps,
  { key, trust }: AccountOptions,
): { account: EwsAccount; close: () => void } {
  const servers = new Map<string, ConnectionPool>();
  const poolFor = (url: URL): ConnectionPool => {
    const found = servers.get(url.origin);
    if (found) return found;
    const secure = url.protocol === "https:";
    const port = Number(url.port) || (secure ? 443 : 80);
    const pool = connectionPool(deps, {
      ca: trust.ca,
      fingerprint: trust.fingerprint,
      host: url.hostname,
      port,
      secure,
    });
    servers.set(url.origin, pool);
    return pool;
  };
  const close = () => {
    for (const lines of servers.values()) lines.close();
  };
  const { command } = deps.timeouts;
  const [version] = VERSIONS;
  return { account: { key, connectionPool: poolFor, cookies: cookieJar(), command, version }, close };
}

function backOffTimes(): BackOffTimes {
  const times = new Map<string, number>();
  return {
    until(key) {
      const at = times.get(key);
      if (at === undefined) return undefined;
      if (at > clock.now()) return new Date(at);
      times.delete(key);
      return undefined;
    },
    set(key, until) {
      times.set(key, Math.max(times.get(key) ?? 0, until.getTime()));
    },
  };
}
/**
 * The key of a login at a server: the user and his credentials, or the application if it acts for itself. A refresh token
 * is no part of it: it changes with each use, and a server sees only the access token of each request.
 */
export function accountKey(exchange: Pick<EwsAccounts, "mark">, { receive }: MailboxOf<"ews">, server: string): string {
  const { auth, ca, fingerprint, scheme } = receive;
  const identity = "oauth2" in auth && !auth.oauth2.refreshToken ? auth.oauth2.clientId : auth.user;
  const credentialsMark = exchange.mark(JSON.stringify([...listCredentials(auth), ca, fingerprint, scheme]));
  return [identity.toLowerCase(), server, credentialsMark].join(" ");
}

function listCredentials(auth: UserAuth): string[] {
  if ("password" in auth) return ["password", auth.password.reveal()];
  if ("accessToken" in auth) return ["token", auth.accessToken.reveal()];
  const { tokenUrl, clientId, clientSecret, privateKey, certificate = "", scope = "" } = auth.oauth2;
  const secrets = [clientSecret, privateKey].map((one) => one?.reveal() ?? "");
  return ["oauth2", tokenUrl, clientId, certificate, scope, ...secrets];
}
