/**
 * OAuth2 access tokens for mailboxes (RFC 6749). They are requested when needed and cached until they expire. Over all
 * nodes there is one request at a time for a grant.
 */
import { createHash } from "node:crypto";
import type { Locks } from "../../concurrency/locks.ts";
import type { FindApplication } from "../../contract/application.ts";
import type { TokenFacts } from "../../contract/learned.ts";
import type { Auth, Mailbox } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";
import type { Secret } from "../../contract/secret.ts";
import type { Egress } from "../../egress.ts";
import { clock, withTimeout } from "../../time.ts";
import { withClientProof, withConsentFix } from "./client-proof.ts";
import { requestToken } from "./grant.ts";
import { getOAuth2, type OAuth2 } from "./settings.ts";

export interface Tokens {
  /**
   * A token that is valid for at least a minute. Throws `token` (retry never) when the server no longer accepts the
   * grant or the client, and later or at a time when the token server has trouble. `login` is the mailbox's own unless
   * it is given.
   */
  access(mailbox: Mailbox, signal: AbortSignal, login?: TokenLogin): Promise<Secret>;
  /** Drops the cached token of a login, because the mail server refused it. A newer one than the refused one stays. */
  forget(owner: string, refused: string): void;
  /** When the token that a login took here ends; undefined if it took none. */
  endOf(owner: string): TokenFacts | undefined;
}

/** One of a mailbox's logins. `owner` is the mailbox's id, or its id with `/send` for its own login to send. */
export type TokenLogin = { owner: string; auth: Auth };

/** The refresh tokens of registered mailboxes. `owner` is a mailbox id, or one with `/send` for its own login to send. */
export interface RefreshTokens {
  /**
   * The OAuth2 settings as they are stored now. Undefined for an owner that is not registered, or whose login belongs to
   * another place than that of `held`, the mailbox that wants the token.
   */
  read(owner: string, held: Mailbox): Promise<OAuth2 | undefined>;
  /** Stores `next` in place of `used`. Does nothing if another refresh token has been stored in the meantime. */
  replace(owner: string, used: Secret, next: Secret): Promise<void>;
}

export type OAuthTokensDeps = {
  egress: Egress;
  timeoutMs?: number;
  /** One node at a time uses a refresh token, because a provider may revoke a token that is used twice. */
  locks: Locks;
  refreshTokens: RefreshTokens;
  findApplication?: FindApplication;
};

/**
 * A cached token. `digests` are hashes of the settings that it is for: those it was requested with, and earlier ones,
 * because a subscription may still hold an older refresh token. `rotation` is a new refresh token that is not stored yet.
 */
type Entry = {
  digests: string[];
  token?: Secret;
  expiresAt: number;
  refreshToken: Secret | undefined;
  rotation?: { used: Secret; next: Secret };
};

const RESPONSE_TIMEOUT_MS = 15_000;
const MAX_DIGESTS = 100;
const EXPIRY_MARGIN_MS = 60_000;
/** Entries that were not used for this long are deleted. */
const KEPT_MS = 24 * 3_600_000;
/** A request waits for the requests of this many other nodes. */
const LOCK_FACTOR = 4;

/** The lock for reading, changing and writing the credentials of a mailbox, so that no rotated token is lost. */
export function credentialsLock(mailbox: string): string {
  return `credentials ${mailbox}`;
}

/** The tokens of all mailboxes of a process. */
export function oauthTokens({ timeoutMs = RESPONSE_TIMEOUT_MS, ...given }: OAuthTokensDeps): Tokens {
  const deps = { ...given, timeoutMs };
  const entries = new Map<string, Entry>();
  const running = new Map<string, Promise<Secret>>();
  /** The entry that a login uses. An application that acts for itself has one entry for all its mailboxes. */
  const keyByOwner = new Map<string, string>();
  const totalMs = (LOCK_FACTOR + 2) * timeoutMs;

  async function getToken(key: string, held: HeldLogin): Promise<Secret> {
    const { owner, oauth2 } = held;
    const cached = entries.get(key);
    const token = cached?.rotation ? undefined : getFreshToken(cached, oauth2);
    if (token) return token;
    const renew = async () => {
      const entry = await renewEntry(deps, held, cached);
      forgetUnused(entries, keyByOwner);
      entries.set(key, entry);
      await storeRotation(deps, owner, entry);
      if (!entry.token) throw new Problem("token", "The token server gave no token");
      return entry.token;
    };
    if (!oauth2.refreshToken) return renew();
    const [registered = owner] = owner.split("/");
    const limits = { waitMs: LOCK_FACTOR * timeoutMs, what: "The refresh token of this mailbox" };
    return deps.locks.hold(credentialsLock(registered), limits, renew, AbortSignal.timeout(totalMs));
  }

  return {
    access(mailbox, signal, { owner, auth } = { owner: mailbox.id, auth: mailbox.receive.auth }) {
      if ("accessToken" in auth) return Promise.resolve(auth.accessToken);
      const oauth2 = getOAuth2(mailbox, auth);
      if (!oauth2) throw new Problem("token", "This mailbox has no OAuth2 settings", { retry: "never" });
      const key = oauth2.refreshToken ? owner : digestSettings(oauth2);
      keyByOwner.set(owner, key);
      const work = running.get(key) ?? getToken(key, { owner, mailbox, oauth2 }).finally(() => running.delete(key));
      running.set(key, work);
      return withTimeout(totalMs, "Fetching an OAuth2 token", work, signal);
    },
    forget(owner, refused) {
      const entry = entries.get(keyByOwner.get(owner) ?? owner);
      if (entry?.token?.reveal() === refused) delete entry.token;
    },
    endOf(owner) {
      const entry = entries.get(keyByOwner.get(owner) ?? owner);
      if (!entry?.token) return undefined;
      const renewsAt = new Date(entry.expiresAt - EXPIRY_MARGIN_MS).toISOString();
      return { endsAt: new Date(entry.expiresAt).toISOString(), renewsAt };
    },
  };
}

/** A login as the mailbox that wants the token holds it. */
type HeldLogin = { owner: string; mailbox: Mailbox; oauth2: OAuth2 };
type RenewDeps = OAuthTokensDeps & { timeoutMs: number };

/**
 * The entry with a token for these settings, or for those that are stored now, because another node may have rotated
 * the refresh token since the caller read its mailbox.
 */
async function renewEntry(
  deps: RenewDeps,
  { owner, mailbox, oauth2 }: HeldLogin,
  cached: Entry | undefined,
): Promise<Entry> {
  if (cached) await storeRotation(deps, owner, cached);
  const stored = oauth2.refreshToken && (await deps.refreshTokens.read(owner, mailbox));
  const settings = stored ?? withNewestRefreshToken(oauth2, cached);
  const digests = [digestSettings(oauth2), digestSettings(settings)];
  const isSame = cached !== undefined && digests.some((one) => cached.digests.includes(one));
  const earlier = isSame ? cached.digests : [];
  if (isSame && getFreshToken(cached, settings)) return { ...cached, digests: mergeDigests(earlier, digests) };

  const { refreshToken: used } = settings;
  const proven = await withClientProof(deps, settings);
  const {
    accessToken,
    lifetimeMs,
    refreshToken: next,
  } = await requestToken(deps, proven, used).catch((error: unknown) => {
    throw settings.application === undefined ? error : withConsentFix(error);
  });
  if (next) digests.push(digestSettings({ ...settings, refreshToken: next }));
  return {
    digests: mergeDigests(earlier, digests),
    token: accessToken,
    expiresAt: clock.now() + lifetimeMs,
    refreshToken: next ?? used,
    ...(used && next && { rotation: { used, next } }),
  };
}

/** The cached token, if it is for these settings and valid for long enough. */
function getFreshToken(entry: Entry | undefined, oauth2: OAuth2): Secret | undefined {
  if (!entry?.digests.includes(digestSettings(oauth2))) return undefined;
  return entry.expiresAt - EXPIRY_MARGIN_MS > clock.now() ? entry.token : undefined;
}

/** The settings with the newest refresh token. If no mailbox is stored, only this process knows it. */
function withNewestRefreshToken(oauth2: OAuth2, entry: Entry | undefined): OAuth2 {
  if (!entry?.refreshToken || !entry.digests.includes(digestSettings(oauth2))) return oauth2;
  return { ...oauth2, refreshToken: entry.refreshToken };
}

/**
 * Stores the new refresh token before anybody gets the access token, because the old one may be void. A failure is
 * repeated at the next use.
 */
async function storeRotation({ refreshTokens }: RenewDeps, owner: string, entry: Entry): Promise<void> {
  if (!entry.rotation) return;
  await refreshTokens.replace(owner, entry.rotation.used, entry.rotation.next);
  delete entry.rotation;
}

function mergeDigests(earlier: string[], added: string[]): string[] {
  return [...new Set([...earlier, ...added])].slice(-MAX_DIGESTS);
}

function forgetUnused(entries: Map<string, Entry>, keyByOwner: Map<string, string>): void {
  for (const [key, { expiresAt, rotation }] of entries) {
    if (rotation || expiresAt + KEPT_MS > clock.now()) continue;
    entries.delete(key);
    for (const [owner, its] of keyByOwner) if (its === key) keyByOwner.delete(owner);
  }
}

function digestSettings(oauth2: OAuth2): string {
  const { tokenUrl, clientId, scope = "", certificate = "" } = oauth2;
  const secrets = [oauth2.clientSecret, oauth2.refreshToken, oauth2.privateKey].map((one) => one?.reveal() ?? "");
  const settings = [tokenUrl, clientId, scope, certificate, ...secrets];
  return createHash("sha256").update(JSON.stringify(settings)).digest("base64");
}
