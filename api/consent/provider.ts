/** How a person signs in at the provider of an application, and whom the provider names afterwards. */
import { type Application, authorizeUrlOf, proofOf, tokenUrlOfApplication } from "../../shared/contract/application.ts";
import { graphRootOf } from "../../shared/contract/graph.ts";
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import { narrowMailbox } from "../../shared/mail/defaults.ts";
import { readOwner } from "../../shared/mail/graph/client/owner.ts";
import type { GraphDeps } from "../../shared/mail/graph/client/session.ts";
import type { OAuth2 } from "../../shared/mail/oauth/settings.ts";
import type { SignInResult, SignInServer } from "../../shared/mail/oauth/sign-in.ts";
import { invalidField } from "../applications.ts";

/** The names by which people know the providers. */
export const PROVIDER_NAMES = { microsoft: "Microsoft", google: "Google" } as const;

/** Where the person signs in. Throws `invalid` if nothing says where. */
export function signInServerOf(
  application: Application,
  { permissions, redirectUri, address }: { permissions: string[]; redirectUri: string; address: string | null },
): SignInServer {
  const authorizeUrl = authorizeUrlOf(application);
  if (authorizeUrl === undefined)
    throw invalidField("application", `has a token server of its own, and no authorizeUrl: ${application.id}`);
  const { clientSecret, certificate, privateKey } = proofOf(application);
  const oauth2: OAuth2 = {
    tokenUrl: tokenUrlOfApplication(application),
    clientId: application.clientId,
    ...(clientSecret && { clientSecret }),
    ...(certificate !== undefined && { certificate }),
    ...(privateKey && { privateKey }),
    // Microsoft asks for PS256.
    ...(application.provider === "microsoft" && { signsBy: "PS256" }),
  };
  const shared = { authorizeUrl, oauth2, redirectUri };
  const hint: Record<string, string> = address === null ? {} : { login_hint: address };
  if (application.provider === "google")
    return {
      ...shared,
      issuer: new URL(authorizeUrl).origin,
      scope: ["openid", "email", ...permissions].join(" "),
      // Without both of these Google gives a refresh token at the first consent only.
      parameters: { access_type: "offline", prompt: "consent", ...hint },
    };
  const root = graphRootOf(application);
  return {
    ...shared,
    // Microsoft's ID token names no verified address. Graph is asked instead.
    issuer: undefined,
    scope: ["offline_access", ...permissions.map((one) => `${root}/${one}`)].join(" "),
    parameters: { response_mode: "query", prompt: "select_account", ...hint },
  };
}

/** The permissions that the provider was asked for and did not give. It may write them with another prefix. */
export function listMissing(permissions: readonly string[], { scopes }: SignInResult): string[] {
  if (scopes === null) return [];
  const given = new Set(scopes.map(lastPart));
  return permissions.filter((one) => !given.has(lastPart(one)));
}

function lastPart(scope: string): string {
  return scope.replace(/\/$/, "").replace(/^.*\//, "").toLowerCase();
}

/** Where an administrator consents for everybody in the directory. */
export function adminConsentUrl(application: Application): string | undefined {
  const url = authorizeUrlOf(application);
  if (application.provider !== "microsoft" || !url?.endsWith("/oauth2/v2.0/authorize")) return undefined;
  const page = url.replace(/\/oauth2\/v2\.0\/authorize$/, "/adminconsent");
  return `${page}?client_id=${encodeURIComponent(application.clientId)}`;
}

/** Who signed in, as the provider proves it: the addresses of the account, and Graph's id of the user. */
export async function readAccount(
  deps: GraphDeps,
  { application, mailbox, result }: { application: Application; mailbox: Mailbox; result: SignInResult },
  signal: AbortSignal,
): Promise<{ addresses: string[]; owner?: string }> {
  if (application.provider === "google") return { addresses: result.email === undefined ? [] : [result.email] };
  const graph = narrowMailbox(mailbox, "graph");
  const { accessToken } = result;
  const asPerson = { ...graph, receive: { ...graph.receive, auth: { accessToken } } };
  const { id, addresses } = await readOwner(deps, asPerson, signal);
  return { addresses, owner: id };
}
