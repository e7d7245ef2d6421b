/** The applications that the fake login server knows, the tokens it has given and what each of them allows. */
import { createHash, randomBytes, randomUUID } from "node:crypto";
import type { Mailbox } from "../store/store.ts";

export type Application = {
  readonly clientId: string;
  /** Secrets that work; the first one is shown to tests. */
  secrets: string[];
  /** PEM certificates that were uploaded. */
  certificates: string[];
  /** Permissions of the application that the administrator granted. */
  permissions: string[];
  /** Permissions that it may ask of a user. */
  scopes: string[];
  /** Only these mailboxes by an application access policy; undefined for all. User principal names. */
  policy: string[] | undefined;
  /** Roles of "RBAC for Applications", which a token does not show: "Mail.ReadWrite" on these mailboxes. */
  exchangeRoles: { permission: string; mailboxes: string[] }[];
  /** Where codes may be sent to. */
  redirectUris: string[];
};

/** Who asks, by the token. */
export type Caller = {
  clientId: string;
  /** The user who signed in; undefined for an application on its own. */
  user: Mailbox | undefined;
  /** Names of permissions: roles of an application, scopes of a user. */
  permissions: string[];
};

export type AccessToken = Caller & {
  audience: string;
  expiresAt: number;
};

/** What a user has allowed; every refresh token of it stays good until it is revoked. */
export type Grant = {
  clientId: string;
  user: Mailbox;
  scopes: string[];
  revoked: number | undefined;
};

export type Code = {
  grant: Grant;
  redirectUri: string;
  challenge: string | undefined;
  nonce: string | undefined;
  scopes: string[];
};

export type Login = {
  tenant: string;
  /** A verified domain of the tenant. */
  domain: string;
  applications: Map<string, Application>;
  accessTokens: Map<string, AccessToken>;
  refreshTokens: Map<string, Grant>;
  codes: Map<string, Code>;
  /** Resources for which it gives tokens; the first one is the Graph root. */
  resources: string[];
  tokenSeconds: number;
  /** Who signs in at the next authorization, and how it ends. */
  signsIn: { user: Mailbox | undefined; error: string | undefined };
};

export function newLogin(domain: string): Login {
  return {
    tenant: randomUUID(),
    domain,
    applications: new Map(),
    accessTokens: new Map(),
    refreshTokens: new Map(),
    codes: new Map(),
    resources: [],
    tokenSeconds: 3599,
    signsIn: { user: undefined, error: undefined },
  };
}

const PERMISSIONS = ["Mail.ReadWrite", "Mail.Send", "User.Read.All"];
const SCOPES = ["Mail.ReadWrite", "Mail.Send", "User.Read"];

/** Registers an application with one secret. */
export function addApplication(login: Login, wish: Partial<Application> = {}): Application {
  const application: Application = {
    clientId: randomUUID(),
    secrets: [`${randomBytes(3).toString("hex")}~${randomBytes(24).toString("base64url")}`],
    certificates: [],
    permissions: PERMISSIONS,
    scopes: SCOPES,
    policy: undefined,
    exchangeRoles: [],
    redirectUris: ["http://127.0.0.1/callback"],
    ...wish,
  };
  login.applications.set(application.clientId, application);
  return application;
}

/** Makes an access token: it looks like those of Entra, but only this server can tell that it is good. */
export function issueAccessToken(login: Login, wish: Omit<AccessToken, "expiresAt">): string {
  const now = Math.floor(Date.now() / 1000);
  const { clientId, user, permissions, audience } = wish;
  const rights = user
    ? { scp: permissions.join(" "), upn: user.userPrincipalName, oid: user.guid }
    : { ...(permissions.length > 0 && { roles: permissions }), oid: randomUUID(), idtyp: "app" };
  const claims = {
    aud: audience,
    iss: `https://sts.windows.net/${login.tenant}/`,
    iat: now,
    nbf: now,
    exp: now + login.tokenSeconds,
    appid: clientId,
    tid: login.tenant,
    ver: "1.0",
    ...rights,
  };
  const token = jwt(claims);
  login.accessTokens.set(token, { ...wish, expiresAt: (now + login.tokenSeconds) * 1000 });
  return token;
}

/** A statement of the login server about who signed in. */
export function issueIdToken(login: Login, origin: string, { grant, nonce }: Pick<Code, "grant" | "nonce">): string {
  const now = Math.floor(Date.now() / 1000);
  const { user, clientId } = grant;
  const claims = {
    aud: clientId,
    iss: `${origin}/${login.tenant}/v2.0`,
    iat: now,
    nbf: now,
    exp: now + login.tokenSeconds,
    name: user.displayName,
    oid: user.guid,
    preferred_username: user.userPrincipalName,
    email: user.mail,
    sub: createHash("sha256").update(`${clientId} ${user.guid}`).digest("base64url"),
    tid: login.tenant,
    ver: "2.0",
    ...(nonce !== undefined && { nonce }),
  };
  return jwt(claims);
}

/** Looks like a signed token; nobody can check the signature. */
function jwt(claims: object): string {
  const head = { typ: "JWT", alg: "RS256", kid: "fake" };
  const parts = [head, claims].map((one) => Buffer.from(JSON.stringify(one)).toString("base64url"));
  return [...parts, randomBytes(256).toString("base64url")].join(".");
}

/** A refresh token of this grant; the ones before stay good. */
export function issueRefreshToken(login: Login, grant: Grant): string {
  const token = `1.${randomBytes(300).toString("base64url")}`;
  login.refreshTokens.set(token, grant);
  return token;
}
