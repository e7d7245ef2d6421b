/** OAuth2 access tokens for mailboxes (RFC 6749): fetched when needed, one request at a time for a grant, kept until they expire. */
import { createHash } from "node:crypto";
import type { Mailbox } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";
import { Secret } from "../../contract/secret.ts";
import type { Egress } from "../../egress.ts";
import { within } from "../../time.ts";
import { ASSERTION_TYPE, clientAssertion } from "./assertion.ts";
import { type Answer, postForm } from "./token-request.ts";

export interface Tokens {
  /**
   * A token that is valid for at least a minute. Throws `token`, retry never, when the grant or the client is no longer
   * accepted, and later or at a time when the token server has trouble.
   */
  access(mailbox: Mailbox, signal: AbortSignal): Promise<Secret>;
  /** Drops the cached token of a mailbox, because the mail server refused it or the mailbox is gone. */
  forget(mailbox: string): void;
}

export type TokenDeps = {
  egress: Egress;
  timeoutMs?: number;
  /** Keeps a new refresh token: the old one may be void from now on. Called again at the next use if it fails. */
  onRotated: (mailbox: string, refreshToken: Secret) => Promise<void>;
};

type OAuth2 = Extract<Mailbox["receive"]["auth"], { oauth2: unknown }>["oauth2"];
/**
 * `names` are digests of the settings that mean this grant: the ones it began with, and one more for each rotation, because a
 * subscription may still hold an older refresh token. Other settings start over.
 */
type Entry = { names: string[]; refreshToken?: Secret; token?: Secret; expiresAt: number; unsaved: boolean };

const ANSWER_MS = 15_000;
const MOST_NAMES = 100;
const SPARE_MS = 60_000;
/** RFC 6749 only recommends `expires_in`; without it the token is not trusted for long. */
const UNKNOWN_LIFE_S = 300;
const LONGEST_WAIT_S = 86_400;

/** Errors only a person can mend (RFC 6749 section 5.2, OpenID Connect Core section 3.1.2.6, Microsoft). */
const FOR_GOOD = new Set([
  "invalid_grant",
  "invalid_client",
  "unauthorized_client",
  "unsupported_grant_type",
  "invalid_scope",
  "interaction_required",
  "consent_required",
  "login_required",
]);

/** The tokens of all mailboxes of a process. */
export function oauthTokens({ timeoutMs = ANSWER_MS, ...given }: TokenDeps): Tokens {
  const deps = { ...given, timeoutMs };
  const entries = new Map<string, Entry>();
  const running = new Map<string, Promise<Secret>>();
  /** The entry that a mailbox uses. An application that acts for itself has one for all its mailboxes. */
  const used = new Map<string, string>();

  async function current(key: string, mailbox: Mailbox, oauth2: OAuth2): Promise<Secret> {
    const name = nameOf(oauth2);
    let entry = entries.get(key);
    if (!entry?.names.includes(name)) {
      entry = {
        names: [name],
        expiresAt: 0,
        unsaved: false,
        ...(oauth2.refreshToken && { refreshToken: oauth2.refreshToken }),
      };
      entries.set(key, entry);
    }
    if (!entry.token || entry.expiresAt - SPARE_MS <= Date.now()) await refresh(deps, oauth2, entry);
    if (entry.unsaved && entry.refreshToken) {
      await deps.onRotated(mailbox.id, entry.refreshToken);
      entry.unsaved = false;
      entry.names = [...entry.names, nameOf({ ...oauth2, refreshToken: entry.refreshToken })].slice(-MOST_NAMES);
    }
    if (!entry.token) throw new Problem("token", "The token server gave no token");
    return entry.token;
  }

  return {
    access(mailbox, signal) {
      const { auth } = mailbox.receive;
      if ("accessToken" in auth) return Promise.resolve(auth.accessToken);
      if (!("oauth2" in auth)) throw new Problem("token", "This mailbox has no OAuth2 settings", { retry: "never" });
      const key = auth.oauth2.refreshToken ? mailbox.id : nameOf(auth.oauth2);
      used.set(mailbox.id, key);
      const work = running.get(key) ?? current(key, mailbox, auth.oauth2).finally(() => running.delete(key));
      running.set(key, work);
      return within(2 * deps.timeoutMs, "Fetching an OAuth2 token", work, signal);
    },
    forget(mailbox) {
      const entry = entries.get(used.get(mailbox) ?? mailbox);
      used.delete(mailbox);
      if (entry) delete entry.token;
    },
  };
}

function nameOf(oauth2: OAuth2): string {
  const { tokenUrl, clientId, scope = "", certificate = "" } = oauth2;
  const secrets = [oauth2.clientSecret, oauth2.refreshToken, oauth2.privateKey].map((one) => one?.reveal() ?? "");
  const settings = [tokenUrl, clientId, scope, certificate, ...secrets];
  return createHash("sha256").update(JSON.stringify(settings)).digest("base64");
}

/** Fills the entry with a new token: by its refresh token (RFC 6749 section 6), else by the client itself (section 4.4). */
async function refresh(deps: Required<TokenDeps>, oauth2: OAuth2, entry: Entry): Promise<void> {
  const form = new URLSearchParams({ client_id: oauth2.clientId, ...proofOf(oauth2) });
  if (oauth2.scope) form.set("scope", oauth2.scope);
  form.set("grant_type", entry.refreshToken ? "refresh_token" : "client_credentials");
  if (entry.refreshToken) form.set("refresh_token", entry.refreshToken.reveal());
  const answer = await postForm(deps, oauth2.tokenUrl, form);
  const body = fieldsOf(answer.body);
  const token = body["access_token"];
  if (answer.status !== 200 || typeof token !== "string" || token === "") throw refused(answer, body);
  const life = Number(body["expires_in"]);
  entry.token = new Secret(token);
  entry.expiresAt = Date.now() + (life > 0 ? life : UNKNOWN_LIFE_S) * 1000;
  const rotated = body["refresh_token"];
  if (typeof rotated !== "string" || rotated === "" || rotated === entry.refreshToken?.reveal()) return;
  entry.refreshToken = new Secret(rotated);
  entry.unsaved = true;
}

/** What proves the client: a signed statement, or its secret; neither for a public client. */
function proofOf({ tokenUrl, clientId, clientSecret, certificate, privateKey }: OAuth2): Record<string, string> {
  if (certificate !== undefined && privateKey) {
    const assertion = clientAssertion({ tokenUrl, clientId, certificate, privateKey });
    return { client_assertion_type: ASSERTION_TYPE, client_assertion: assertion };
  }
  if (certificate !== undefined || privateKey)
    throw new Problem("token", "OAuth2 needs the certificate and its private key, or neither", { retry: "never" });
  return clientSecret ? { client_secret: clientSecret.reveal() } : {};
}

function fieldsOf(text: string): Record<string, unknown> {
  try {
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === "object" && parsed !== null ? { ...parsed } : {};
  } catch {
    // A page of a proxy, say: the status alone decides.
    return {};
  }
}

function refused(answer: Answer, body: Record<string, unknown>): Problem {
  const word = (name: string) => (typeof body[name] === "string" ? body[name] : "");
  const evidence = [word("error"), word("error_description")].filter(Boolean).join(": ").slice(0, 500);
  const said = evidence ? { evidence } : {};
  if (answer.status === 429 || answer.status >= 500) {
    const wait = Math.min(Number(answer.retryAfter), LONGEST_WAIT_S);
    const retry = wait > 0 ? new Date(Date.now() + wait * 1000) : "later";
    return new Problem("unavailable", `The token server has trouble (HTTP ${answer.status})`, { ...said, retry });
  }
  const forGood = FOR_GOOD.has(word("error"));
  const cause = forGood ? "The token server no longer accepts this grant or client" : "The token server gave no token";
  return new Problem("token", `${cause} (HTTP ${answer.status})`, { ...said, retry: forGood ? "never" : "later" });
}
