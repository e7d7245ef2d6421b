/**
 * An application: what a provider knows this service as. It is registered once, and mailboxes name it instead of a login
 * of their own.
 */
import * as v from "valibot";
import { HttpUrl, UrlWithoutLogin } from "./endpoint.ts";
import { ApplicationId, Pem, text } from "./fields.ts";
import { checkGraphLogin, Cloud, graphRootOf, Tenant, tokenUrlOf } from "./graph.ts";
import { Secret } from "./secret.ts";

function applicationEntries<S extends v.GenericSchema>(secret: S, OtherUrl: typeof HttpUrl | typeof UrlWithoutLogin) {
  return {
    provider: v.literal("microsoft", "must be microsoft: mailboxes of other providers have a login of their own"),
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
  };
}

const wireSecret = v.pipe(v.string(), v.minLength(1, "must not be empty"), v.maxLength(16384));

/** The body of POST and PUT, with secrets in clear (so only over TLS or loopback). */
export const ApplicationInput = v.strictObject({
  id: v.optional(ApplicationId),
  ...applicationEntries(wireSecret, UrlWithoutLogin),
});
export type ApplicationInput = v.InferOutput<typeof ApplicationInput>;

/** An application inside the service. Its secrets cannot be printed. `revision` grows with every change. */
export const Application = v.object({
  id: ApplicationId,
  ...applicationEntries(v.instance(Secret), HttpUrl),
  revision: v.pipe(v.number(), v.integer()),
  createdAt: v.string(),
  updatedAt: v.string(),
});
export type Application = v.InferOutput<typeof Application>;

/** Another text after each change, also when an application was removed and another registered under its id. */
export function versionOf({ revision, updatedAt }: Pick<Application, "revision" | "updatedAt">): string {
  return `${revision} ${updatedAt}`;
}

/** The secrets of an application. Code that encrypts, decrypts or leaves out secrets uses this list. */
export const APPLICATION_SECRETS = ["clientSecret", "privateKey"] as const;

/** Gives the application with this id as it is stored now. */
export type FindApplication = (id: string) => Promise<Application | undefined>;

/** The parts of an application that decide where its secrets and the tokens for them go. */
type Placed = Pick<Application, "provider" | "tenant" | "clientId" | "cloud" | "graphUrl" | "tokenUrl">;

/** A text that is the same only for the same provider, token server, root of Graph, tenant and client. */
export function describeApplicationPlace(application: Placed): string {
  const { provider, tenant, clientId, cloud } = application;
  const root = graphRootOf(application);
  return JSON.stringify([provider, tokenUrlOf({ cloud, auth: loginOf(application) }), root, tenant, clientId]);
}

/** The login of an application in the form of a mailbox's own. An own token server takes the place of the tenant's. */
export function loginOf<A extends Pick<Placed, "tenant" | "tokenUrl">>({ tenant, tokenUrl }: A) {
  return { oauth2: tokenUrl === undefined ? { tenant } : { tokenUrl } };
}

/** The first setting that cannot work, with its path. */
export function checkApplication(input: ApplicationInput): { path: string; message: string } | undefined {
  const { tenant, tokenUrl, clientSecret, certificate, privateKey } = input;
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
  const wrong = checkGraphLogin({ oauth2: { tenant, clientSecret, certificate, privateKey } });
  if (wrong) return { path: wrong.path.replace("auth.oauth2.", ""), message: wrong.message };
  if (tokenUrl === undefined) return undefined;
  const other = checkGraphLogin({ oauth2: { tokenUrl, clientSecret, certificate, privateKey } });
  return other && { path: other.path.replace("auth.oauth2.", ""), message: other.message };
}
