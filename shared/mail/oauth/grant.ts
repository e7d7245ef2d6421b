/** One request for an access token (RFC 6749), and the meaning of its answer. */
import {
  allowInsecureRequests,
  type ClientAuth,
  ClientSecretPost,
  customFetch,
  genericTokenEndpointRequest,
  None,
  processGenericTokenEndpointResponse,
  OperationProcessingError,
  ResponseBodyError,
} from "oauth4webapi";
import type { Evidence } from "../../contract/evidence.ts";
import { Problem } from "../../contract/problem.ts";
import { Secret } from "../../contract/secret.ts";
import { type Given, quoteWords } from "../../evidence/evidence.ts";
import { clock } from "../../time.ts";
import { certificateAuth } from "./assertion.ts";
import { findEntraFault } from "./entra-errors.ts";
import type { OAuth2 } from "./settings.ts";
import { type PostTokenRequestDeps, type TokenResponse, postTokenRequest } from "./token-request.ts";

/** `lifetimeMs` counts from the answer. `refreshToken` is set if the server gave a new one. */
export type Grant = { accessToken: Secret; lifetimeMs: number; refreshToken?: Secret };

/** RFC 6749 only recommends `expires_in`. Without it the token counts as valid for a short time. */
const DEFAULT_LIFETIME_S = 300;
const MAX_RETRY_AFTER_S = 86_400;
/** The members of an answer that are used. */
const MEMBERS = ["access_token", "token_type", "expires_in", "refresh_token", "error", "error_description"];

/** Errors that only a person can fix (RFC 6749 section 5.2, OpenID Connect Core section 3.1.2.6, Microsoft). */
const PERMANENT_ERRORS = new Set([
  "invalid_grant",
  "invalid_client",
  "unauthorized_client",
  "unsupported_grant_type",
  "invalid_scope",
  "interaction_required",
  "consent_required",
  "login_required",
]);

/**
 * Asks for a token with the refresh token (RFC 6749 section 6), or as the client itself (section 4.4). Throws `token`
 * (retry never) when the server no longer accepts the grant or the client. Throws `token` or `unavailable`, later or at
 * a time, when the server has trouble. Otherwise it throws as `postTokenRequest`.
 */
export async function requestToken(
  deps: PostTokenRequestDeps,
  oauth2: OAuth2,
  refreshToken: Secret | undefined,
): Promise<Grant> {
  // The URL is used as the server's name, because the mailbox has none. It is also the audience of the client
  // assertion.
  const server = { issuer: oauth2.tokenUrl, token_endpoint: oauth2.tokenUrl };
  const client = { client_id: oauth2.clientId };
  const parameters = new URLSearchParams(oauth2.scope ? { scope: oauth2.scope } : {});
  if (refreshToken) parameters.set("refresh_token", refreshToken.reveal());
  const grantType = refreshToken ? "refresh_token" : "client_credentials";
  const { options, toProblem } = tokenExchange(deps, oauth2);
  const proof = await getClientAuth(oauth2);
  const response = await genericTokenEndpointRequest(server, client, proof, grantType, parameters, options);
  const answer = await processGenericTokenEndpointResponse(server, client, response).catch((error: unknown) => {
    throw toProblem(response.status, error);
  });
  const rotated = refreshToken && answer.refresh_token !== refreshToken.reveal() ? answer.refresh_token : undefined;
  return {
    accessToken: new Secret(answer.access_token),
    lifetimeMs: (answer.expires_in || DEFAULT_LIFETIME_S) * 1000,
    ...(rotated !== undefined && { refreshToken: new Secret(rotated) }),
  };
}

/**
 * How the library makes one request for a token: over the guarded connection, with only these members of the answer
 * besides the usual ones. `toProblem` explains what the library threw, without the secrets of the request.
 */
export function tokenExchange(deps: PostTokenRequestDeps, oauth2: OAuth2, more: readonly string[] = []) {
  let given: Given = { secrets: [] };
  const members = [...MEMBERS, ...more];
  return {
    options: {
      // A mailbox may name a server without TLS. The egress guard decides about the address.
      [allowInsecureRequests]: true,
      [customFetch]: async (address: string, { body }: { body: URLSearchParams }) => {
        given = { secrets: [...SECRET_FIELDS.flatMap((name) => body.getAll(name)), ...keyOf(oauth2)] };
        return toResponse(await postTokenRequest(deps, address, body), { given, members });
      },
    },
    toProblem: (status: number, error: unknown) => toTokenProblem(status, error, given),
  };
}

/** How the client proves its identity: a signed assertion or its secret. A public client has neither. */
export async function getClientAuth({ clientSecret, certificate, privateKey, signsBy }: OAuth2): Promise<ClientAuth> {
  if (certificate !== undefined && privateKey) return certificateAuth({ certificate, privateKey, signsBy });
  if (certificate !== undefined || privateKey)
    throw new Problem("token", "OAuth2 needs the certificate and its private key, or neither", { retry: "never" });
  return clientSecret ? ClientSecretPost(clientSecret.reveal()) : None();
}

/**
 * The answer in the form that the library accepts. The library is stricter than servers are. So members that are empty
 * or unused are removed (it would check an ID token against the server's name), a token type is set, and the content
 * type is JSON.
 */
function toResponse(
  { status, body, retryAfter }: TokenResponse,
  { given, members }: { given: Given; members: readonly string[] },
): Response {
  const fields = parseFields(body);
  if (status === 429 || status >= 500) throw toBusyProblem({ status, retryAfter, fields }, given);
  // For example a redirect. The library expects only 200 and the errors of RFC 6749.
  if (status !== 200 && (status < 400 || status > 499))
    throw toTokenProblem(status, new Error("no token answer"), given);
  const used = members
    .map((name) => [name, fields[name]] as const)
    .filter(([, value]) => value != null && value !== "");
  return Response.json({ token_type: "bearer", ...Object.fromEntries(used) }, { status });
}

function parseFields(text: string): Record<string, unknown> {
  try {
    return toFields(JSON.parse(text));
  } catch {
    // For example the page of a proxy. Then only the status counts.
    return {};
  }
}

function toFields(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? { ...value } : {};
}

function toBusyProblem(
  { status, retryAfter, fields }: Pick<TokenResponse, "status" | "retryAfter"> & { fields: Record<string, unknown> },
  given: Given,
): Problem {
  const wait = Math.min(Number(retryAfter), MAX_RETRY_AFTER_S);
  const retry = wait > 0 ? new Date(clock.now() + wait * 1000) : "later";
  return new Problem("unavailable", `The token server has trouble (HTTP ${status})`, {
    ...evidenceOf(fields, given),
    retry,
  });
}

/** `error` is what the library threw. */
function toTokenProblem(status: number, error: unknown, given: Given): Problem {
  const fields = getErrorFields(error);
  const known = findEntraFault(String(fields["error_description"] ?? ""));
  if (known) {
    const { code, cause: reason, fix, retry } = known;
    return new Problem(code, `${reason} (HTTP ${status})`, { ...evidenceOf(fields, given), fix, retry });
  }
  const permanent = PERMANENT_ERRORS.has(String(fields["error"]));
  const cause = permanent
    ? "The token server no longer accepts this grant or client"
    : "The token server gave no token";
  return new Problem("token", `${cause} (HTTP ${status})`, {
    ...evidenceOf(fields, given),
    retry: permanent ? "never" : "later",
  });
}

/** The members of an answer without a token: of an error, or of a status 200. */
function getErrorFields(error: unknown): Record<string, unknown> {
  if (error instanceof ResponseBodyError) return error.cause;
  const cause = error instanceof OperationProcessingError ? error.cause : undefined;
  return typeof cause === "object" && cause !== null && "body" in cause ? toFields(cause.body) : {};
}

/** The fields of a request that its answer must not repeat. */
const SECRET_FIELDS = ["client_secret", "refresh_token", "client_assertion", "code", "code_verifier"];

function keyOf({ privateKey }: OAuth2): string[] {
  return privateKey ? [privateKey.reveal()] : [];
}

function evidenceOf(fields: Record<string, unknown>, given: Given): { evidence?: Evidence } {
  const words = [fields["error"], fields["error_description"]].filter(
    (word) => typeof word === "string" && word !== "",
  );
  return words.length > 0 ? { evidence: quoteWords(words.join(": "), given) } : {};
}
