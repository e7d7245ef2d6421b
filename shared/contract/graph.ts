/** A mailbox of Microsoft 365 that is received by Microsoft Graph: its settings, and the servers that they mean. */
import * as v from "valibot";
import type { HttpUrl, UrlWithoutLogin } from "./endpoint.ts";
import { ApplicationId, Pem, text, tlsTrust } from "./fields.ts";

/** Microsoft's clouds. A tenant lives in exactly one of them, and a token of one is worthless in another. */
const CLOUDS = {
  global: { graph: "https://graph.microsoft.com", login: "https://login.microsoftonline.com" },
  usgov: { graph: "https://graph.microsoft.us", login: "https://login.microsoftonline.us" },
  dod: { graph: "https://dod-graph.microsoft.us", login: "https://login.microsoftonline.us" },
  china: { graph: "https://microsoftgraph.chinacloudapi.cn", login: "https://login.chinacloudapi.cn" },
} as const;

export const Cloud = v.picklist(["global", "usgov", "dod", "china"], "must be global, usgov, dod or china");
type Cloud = v.InferOutput<typeof Cloud>;

/** The directory (tenant): its id or one of its domains. The cloud's token server follows from it. */
export const Tenant = v.pipe(
  text(253),
  v.regex(/^[A-Za-z0-9.-]+$/, "must be the directory (tenant) id or a domain of it"),
);

/** How a client proves its identity to a token server, and what it asks for. */
export function clientEntries<S extends v.GenericSchema>(secret: S) {
  return {
    clientId: text(512),
    clientSecret: v.optional(secret),
    /**
     * In place of a client secret: the client signs its requests (RFC 7523) with this key. The provider knows the
     * certificate.
     */
    certificate: v.optional(Pem),
    privateKey: v.optional(secret),
    refreshToken: v.optional(secret),
    /**
     * In place of a client secret or certificate: the application whose proof of identity is used. Its client and token
     * server must be these.
     */
    application: v.optional(ApplicationId),
    scope: v.optional(text(2048)),
  };
}

/** The entries of `receive` that are Graph's own. */
export function graphEntries<S extends v.GenericSchema>(secret: S, TokenUrl: typeof HttpUrl | typeof UrlWithoutLogin) {
  const OAuth2 = v.strictObject({
    tenant: v.optional(Tenant),
    /** In place of `tenant`: the whole URL of another token server. */
    tokenUrl: v.optional(TokenUrl),
    ...clientEntries(secret),
  });
  return {
    /** When absent: global, or the cloud of the application that the login names. */
    cloud: v.optional(Cloud),
    /**
     * Another root than the cloud's. Links of the server are followed below it only, and an application's token is for it
     * unless `scope` says otherwise.
     */
    graphUrl: v.optional(TokenUrl),
    ...tlsTrust,
    /** The user's object id or userPrincipalName; the mailbox's address when absent. */
    user: v.optional(text(320)),
    auth: v.union(
      [
        v.strictObject({ application: ApplicationId }),
        v.strictObject({ accessToken: secret }),
        v.strictObject({ oauth2: OAuth2 }),
      ],
      "must be { application }, { oauth2 } or { accessToken }: Microsoft Graph takes no password and no user",
    ),
  };
}

/** The parts of a mailbox by Graph that say where its servers are. */
export type GraphServers = {
  cloud?: Cloud | undefined;
  graphUrl?: string | undefined;
  auth:
    | { oauth2: { tenant?: string | undefined; tokenUrl?: string | undefined } }
    | { accessToken: unknown }
    | { application: string };
};

/** The root of Graph, without a slash at its end. */
export function graphRootOf({ cloud = "global", graphUrl }: Pick<GraphServers, "cloud" | "graphUrl">): string {
  return (graphUrl ?? CLOUDS[cloud].graph).replace(/(?<!\/)\/+$/, "");
}

/** The URL that gives tokens. Undefined for a mailbox that was given its token, or that names an application. */
export function tokenUrlOf({ cloud = "global", auth }: Pick<GraphServers, "cloud" | "auth">): string | undefined {
  if (!("oauth2" in auth)) return undefined;
  const { tenant = "", tokenUrl } = auth.oauth2;
  return tokenUrl ?? `${CLOUDS[cloud].login}/${tenant}/oauth2/v2.0/token`;
}

/** Names in place of a tenant, which mean any of them. An application acts for itself in one tenant only. */
const ANY_TENANT = new Set(["common", "organizations", "consumers"]);

type GraphOAuth2 = Partial<
  Record<"tenant" | "tokenUrl" | "clientSecret" | "certificate" | "privateKey" | "refreshToken", unknown>
>;

const at = (name: string, message: string) => ({ path: `auth.oauth2${name}`, message });

/** The first setting of the mailbox's servers and login that cannot work, with its path below `receive`. */
export function checkGraphServers({
  auth,
  cloud,
  graphUrl,
}: GraphServers): { path: string; message: string } | undefined {
  if (!("application" in auth)) return checkGraphLogin(auth);
  const name = cloud !== undefined ? "cloud" : graphUrl !== undefined ? "graphUrl" : undefined;
  return name && { path: name, message: "must be left out: it comes from the application that auth names" };
}

/** The first setting of the login that cannot work, with its path below `receive`. */
export function checkGraphLogin(auth: { oauth2: GraphOAuth2 } | object): { path: string; message: string } | undefined {
  if (!("oauth2" in auth)) return undefined;
  const { tenant, tokenUrl, clientSecret, certificate, privateKey, refreshToken } = auth.oauth2;
  if (tenant === undefined && tokenUrl === undefined)
    return at(".tenant", "is missing: give the directory (tenant) id or a domain of it");
  if (tenant !== undefined && tokenUrl !== undefined)
    return at("", "must have tenant or tokenUrl, not both: the token server of a tenant follows from the cloud");
  if ((certificate === undefined) !== (privateKey === undefined))
    return at("", "needs certificate and privateKey together, or neither");
  if (clientSecret === undefined && certificate === undefined && refreshToken === undefined)
    return at("", "needs clientSecret, or certificate and privateKey, or refreshToken");
  if (refreshToken !== undefined) return undefined;
  const named = tenant ?? new URL(String(tokenUrl)).pathname.split("/")[1];
  if (!ANY_TENANT.has(String(named).toLowerCase())) return undefined;
  const field = tenant === undefined ? ".tokenUrl" : ".tenant";
  return at(field, `must name one tenant: ${String(named)} means any, and an application has its permissions in one`);
}
