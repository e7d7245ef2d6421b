/**
 * An application: what a provider knows this service as. It is registered once, and mailboxes name it instead of a login
 * of their own, or beside what a person consented to.
 */
import * as v from "valibot";
import { HttpUrl, UrlWithoutLogin } from "./endpoint.ts";
import { ApplicationId, Host, Pem, Port, text, Tls, tlsTrust } from "./fields.ts";
import { checkGraphLogin, Cloud, graphRootOf, Tenant, tokenUrlOf } from "./graph.ts";
import type { Auth, Mailbox } from "./mailbox.ts";
import { Secret } from "./secret.ts";

type OtherUrlSchema = typeof HttpUrl | typeof UrlWithoutLogin;

/** A mail server other than the provider's own, for tests and proxies. */
const MailServer = v.strictObject({ host: Host, port: v.optional(Port), tls: v.optional(Tls), ...tlsTrust });

const Domain = v.pipe(text(253), v.regex(/^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$/, "must be a domain, such as contoso.com"));

function microsoftEntries<S extends v.GenericSchema>(secret: S, OtherUrl: OtherUrlSchema) {
  return {
    provider: v.literal("microsoft"),
    /** The directory (tenant): its id or one of its domains. */
    tenant: Tenant,
    clientId: text(512),
    clientSecret: v.optional(secret),
    /** In place of a client secret: the client signs its requests with this key. The provider knows the certificate. */
    certificate: v.optional(Pem),
    privateKey: v.optional(secret),
    cloud: v.optional(Cloud, "global"),
    /** Other roots than the cloud's. Links of the server are followed below `graphUrl` only. */
    graphUrl: v.optional(OtherUrl),
    tokenUrl: v.optional(OtherUrl),
    /** The CRMs' Exchange mailboxes at Microsoft with addresses of these domains are received and sent by Graph through it. */
    domains: v.optional(v.pipe(v.array(Domain), v.minLength(1), v.maxLength(100))),
    /** Where people sign in. When absent, it follows from the token server. */
    authorizeUrl: v.optional(OtherUrl),
  };
}

function googleEntries<S extends v.GenericSchema>(secret: S, OtherUrl: OtherUrlSchema) {
  return {
    provider: v.literal("google"),
    clientId: text(512),
    clientSecret: v.optional(secret),
    /** Other servers than Google's: for signing in, for tokens, and for the mail of the mailboxes. */
    authorizeUrl: v.optional(OtherUrl),
    tokenUrl: v.optional(OtherUrl),
    imap: v.optional(MailServer),
    smtp: v.optional(MailServer),
  };
}

const wireSecret = v.pipe(v.string(), v.minLength(1, "must not be empty"), v.maxLength(16384));
const wireId = { id: v.optional(ApplicationId) };

/** The body of POST and PUT, with secrets in clear (so only over TLS or loopback). */
export const ApplicationInput = v.variant("provider", [
  v.strictObject({ ...wireId, ...microsoftEntries(wireSecret, UrlWithoutLogin) }),
  v.strictObject({ ...wireId, ...googleEntries(wireSecret, UrlWithoutLogin) }),
]);
export type ApplicationInput = v.InferOutput<typeof ApplicationInput>;

const storedEntries = {
  id: ApplicationId,
  revision: v.pipe(v.number(), v.integer()),
  createdAt: v.string(),
  updatedAt: v.string(),
};

/** An application inside the service. Its secrets cannot be printed. `revision` grows with every change. */
export const Application = v.variant("provider", [
  v.object({ ...storedEntries, ...microsoftEntries(v.instance(Secret), HttpUrl) }),
  v.object({ ...storedEntries, ...googleEntries(v.instance(Secret), HttpUrl) }),
]);
export type Application = v.InferOutput<typeof Application>;
export type MicrosoftApplication = Extract<Application, { provider: "microsoft" }>;
export type GoogleApplication = Extract<Application, { provider: "google" }>;

/** Another text after each change, also when an application was removed and another registered under its id. */
export function versionOf({ revision, updatedAt }: Pick<Application, "revision" | "updatedAt">): string {
  return `${revision} ${updatedAt}`;
}

/** The secrets of an application. Code that encrypts, decrypts or leaves out secrets uses this list. */
export const APPLICATION_SECRETS = ["clientSecret", "privateKey"] as const;

/** How a client proves its identity, in clear or as secrets. */
export type ClientProof<S> = {
  clientSecret?: S | undefined;
  certificate?: string | undefined;
  privateKey?: S | undefined;
};

/** How the application proves its identity: a client secret, or a certificate and its key. */
export function proofOf(application: Application): ClientProof<Secret> {
  return application;
}

/** Gives the application with this id as it is stored now. */
export type FindApplication = (id: string) => Promise<Application | undefined>;

/** The application that a login names, with the name's path below the login. */
function namedBy(auth: Auth): { path: string; id: string } | undefined {
  if ("application" in auth) return { path: "application", id: auth.application };
  const id = "oauth2" in auth ? auth.oauth2.application : undefined;
  return id === undefined ? undefined : { path: "oauth2.application", id };
}

/** The application that a login names. */
export function applicationOf(auth: Auth): string | undefined {
  return namedBy(auth)?.id;
}

/** The applications that the logins of a mailbox name, with the paths of the names. */
export function listApplicationNames({ receive, send }: Pick<Mailbox, "receive" | "send">) {
  const logins = [["receive", receive.auth] as const, ...(send?.auth ? [["send", send.auth] as const] : [])];
  return logins.flatMap(([part, auth]) => {
    const named = namedBy(auth);
    return named ? [{ path: `${part}.auth.${named.path}`, id: named.id }] : [];
  });
}

type Unsealed<A> = A extends unknown ? Omit<A, (typeof APPLICATION_SECRETS)[number]> : never;
/** The parts of an application that decide where its secrets and the tokens for them go. */
type Placed = Unsealed<Application>;

/** A text that is the same only for the same provider, token server, servers for mail, tenant and client. */
export function describeApplicationPlace(application: Placed): string {
  const { provider, clientId, authorizeUrl } = application;
  const url = tokenUrlOfApplication(application);
  const signIn = authorizeUrl === undefined ? [] : [authorizeUrl];
  if (application.provider === "google")
    return JSON.stringify([provider, url, clientId, application.imap ?? null, application.smtp ?? null, ...signIn]);
  return JSON.stringify([provider, url, graphRootOf(application), application.tenant, clientId, ...signIn]);
}

/** The login of an application in the form of a mailbox's own. An own token server takes the place of the tenant's. */
export function loginOf<A extends { tenant: string; tokenUrl?: string | undefined }>({ tenant, tokenUrl }: A) {
  return { oauth2: tokenUrl === undefined ? { tenant } : { tokenUrl } };
}

const GOOGLE = {
  authorizeUrl: "https://accounts.google.com/o/oauth2/v2/auth",
  tokenUrl: "https://oauth2.googleapis.com/token",
};

/** The URL that gives tokens for the application. */
export function tokenUrlOfApplication(application: Placed): string {
  if (application.provider === "google") return application.tokenUrl ?? GOOGLE.tokenUrl;
  return tokenUrlOf({ cloud: application.cloud, auth: loginOf(application) }) ?? "";
}

/** The URL where people sign in. Undefined if it does not follow from the application's token server. */
export function authorizeUrlOf(application: Placed): string | undefined {
  if (application.authorizeUrl !== undefined) return application.authorizeUrl;
  if (application.provider === "google") return GOOGLE.authorizeUrl;
  const url = tokenUrlOfApplication(application);
  return url.endsWith("/token") ? url.replace(/\/token$/, "/authorize") : undefined;
}

/** The first setting that cannot work, with its path. */
export function checkApplication(input: ApplicationInput): { path: string; message: string } | undefined {
  const { tokenUrl, clientSecret, certificate, privateKey }: ClientProof<string> & { tokenUrl?: string | undefined } =
    input;
  if (input.provider === "google")
    return clientSecret === undefined ? { path: "clientSecret", message: "is missing" } : undefined;
  if (clientSecret !== undefined && (certificate !== undefined || privateKey !== undefined))
    return { path: "clientSecret", message: "must not be there beside a certificate: the client proves itself by one" };
  if (certificate !== undefined && privateKey === undefined)
    return { path: "privateKey", message: "is missing: a certificate needs its private key in PEM" };
  if (privateKey !== undefined && certificate === undefined)
    return {
      path: "certificate",
      message: "is missing: the private key needs the certificate that the provider knows",
    };
  if (clientSecret === undefined && certificate === undefined)
    return { path: "clientSecret", message: "is missing: give clientSecret, or certificate and privateKey" };
  if (certificate?.includes("PRIVATE KEY-----"))
    return { path: "certificate", message: "must not hold a private key: everybody who reads the application sees it" };
  // A token server of its own does not show in its URL which tenant it serves.
  const { tenant } = input;
  const wrong = checkGraphLogin({ oauth2: { tenant, clientSecret, certificate, privateKey } });
  if (wrong) return { path: wrong.path.replace("auth.oauth2.", ""), message: wrong.message };
  if (tokenUrl === undefined) return undefined;
  const other = checkGraphLogin({ oauth2: { tokenUrl, clientSecret, certificate, privateKey } });
  return other && { path: other.path.replace("auth.oauth2.", ""), message: other.message };
}
