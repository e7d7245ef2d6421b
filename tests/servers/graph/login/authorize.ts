/** The authorization endpoint: the person whom the test has named signs in and consents at once. */
import { randomBytes } from "node:crypto";
import type { Answer } from "../answers.ts";
import type { Application, Login } from "./applications.ts";

/** Entra does not look at the port of a loopback address. */
function withoutPort(text: string): string {
  return text.replace(/^(http:\/\/(?:localhost|127\.0\.0\.1)):\d+/, "$1");
}

/** Answers with a redirection to the application, or with the page that says why there is none. */
export function authorize(login: Login, query: URLSearchParams): Answer {
  const application = login.applications.get(query.get("client_id") ?? "");
  const redirectUri = query.get("redirect_uri") ?? "";
  if (!application) return page("AADSTS700016: Application was not found in the directory.");
  if (!application.redirectUris.some((one) => withoutPort(one) === withoutPort(redirectUri)))
    return page("AADSTS50011: The redirect URI specified in the request does not match.");
  if (query.get("response_type") !== "code") return page("AADSTS900144: The request must contain 'response_type'.");
  const { user, error } = login.signsIn;
  const back = new URL(redirectUri);
  const state = query.get("state");
  if (state !== null) back.searchParams.set("state", state);
  if (!user || error !== undefined) {
    back.searchParams.set("error", "access_denied");
    back.searchParams.set("error_description", error ?? "AADSTS65004: User declined to consent to access the app.");
  } else {
    back.searchParams.set("code", newCode(login, application, query));
    back.searchParams.set("session_state", randomBytes(16).toString("hex"));
  }
  return { status: 302, headers: { Location: back.href } };
}

function newCode(login: Login, { clientId }: Application, query: URLSearchParams): string {
  const { user } = login.signsIn;
  if (!user) throw new Error("Nobody signs in");
  const scopes = (query.get("scope") ?? "").split(" ").filter((one) => one !== "");
  const code = `1.${randomBytes(120).toString("base64url")}`;
  login.codes.set(code, {
    grant: { clientId, user, scopes, revoked: undefined },
    redirectUri: query.get("redirect_uri") ?? "",
    challenge: query.get("code_challenge") ?? undefined,
    nonce: query.get("nonce") ?? undefined,
    scopes,
  });
  return code;
}

function page(text: string): Answer {
  const headers = { "Content-Type": "text/html" };
  return {
    status: 400,
    headers,
    bytes: Buffer.from(`<html><body>Sorry, but we're having trouble signing you in. ${text}</body></html>`),
  };
}

/** What OpenID clients read of a tenant. */
export function configuration(origin: string, tenant: string): Answer {
  const base = `${origin}/${tenant}`;
  const json = {
    issuer: `${base}/v2.0`,
    authorization_endpoint: `${base}/oauth2/v2.0/authorize`,
    token_endpoint: `${base}/oauth2/v2.0/token`,
    jwks_uri: `${base}/discovery/v2.0/keys`,
    response_types_supported: ["code"],
    subject_types_supported: ["pairwise"],
    id_token_signing_alg_values_supported: ["RS256"],
    code_challenge_methods_supported: ["S256"],
  };
  return { status: 200, json };
}
