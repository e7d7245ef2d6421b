/** A person signs in at a provider and consents: the authorization code flow with PKCE (RFC 6749 section 4.1, RFC 7636). */
import {
  authorizationCodeGrantRequest,
  calculatePKCECodeChallenge,
  generateRandomCodeVerifier,
  generateRandomNonce,
  getValidatedIdTokenClaims,
  OperationProcessingError,
  processAuthorizationCodeResponse,
  validateAuthResponse,
} from "oauth4webapi";
import { Problem } from "../../contract/problem.ts";
import { Secret } from "../../contract/secret.ts";
import { getClientAuth, tokenExchange } from "./grant.ts";
import type { OAuth2 } from "./settings.ts";
import type { PostTokenRequestDeps } from "./token-request.ts";

/** Where a person signs in, and for what. `issuer` is set where the provider states who signed in by an ID token. */
export type SignInServer = {
  issuer: string | undefined;
  authorizeUrl: string;
  oauth2: OAuth2;
  redirectUri: string;
  scope: string;
  /** Further parameters for the page of the provider. */
  parameters: Record<string, string>;
};

/** What only the beginning and the end of one sign-in know. */
export type SignInSecrets = { state: string; verifier: string; nonce: string };

/** What the provider gave. `scopes` is null where it says nothing of them: then it gave those that were asked for. */
export type SignInResult = {
  accessToken: Secret;
  refreshToken: Secret | undefined;
  scopes: string[] | null;
  /** The verified address in the ID token, if the provider gives one. */
  email: string | undefined;
};

/** The address of the provider's page for this sign-in, and the secrets for its end. */
export async function beginSignIn(
  { issuer, authorizeUrl, oauth2, redirectUri, scope, parameters }: SignInServer,
  state: string,
): Promise<{ url: string; secrets: SignInSecrets }> {
  const [verifier, nonce] = [generateRandomCodeVerifier(), generateRandomNonce()];
  const url = new URL(authorizeUrl);
  const all = {
    response_type: "code",
    client_id: oauth2.clientId,
    redirect_uri: redirectUri,
    scope,
    state,
    code_challenge: await calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
    ...(issuer !== undefined && { nonce }),
    ...parameters,
  };
  for (const [name, value] of Object.entries(all)) url.searchParams.set(name, value);
  return { url: url.href, secrets: { state, verifier, nonce } };
}

/**
 * Redeems the code in `answer`, the query that the provider sent the person back with. Throws `token` when the answer
 * belongs to another sign-in or the provider refuses the code, and as `requestToken`.
 */
export async function finishSignIn(
  deps: PostTokenRequestDeps,
  { issuer, authorizeUrl, oauth2, redirectUri }: SignInServer,
  answer: URLSearchParams,
  { state, verifier, nonce }: SignInSecrets,
): Promise<SignInResult> {
  // Without an ID token the URL is the server's name. It is also the audience of a client assertion.
  const { tokenUrl } = oauth2;
  const server = { issuer: issuer ?? tokenUrl, authorization_endpoint: authorizeUrl, token_endpoint: tokenUrl };
  const client = { client_id: oauth2.clientId };
  const given = new URLSearchParams(answer);
  if (issuer === undefined) given.delete("iss");
  const exchange = tokenExchange(deps, oauth2, ["scope", ...(issuer === undefined ? [] : ["id_token"])]);
  const code = readCode(() => validateAuthResponse(server, client, given, state));
  const proof = await getClientAuth(oauth2);
  const response = await authorizationCodeGrantRequest(
    server,
    client,
    proof,
    code,
    redirectUri,
    verifier,
    exchange.options,
  );
  const wanted = issuer === undefined ? {} : { expectedNonce: nonce, requireIdToken: true };
  const token = await processAuthorizationCodeResponse(server, client, response, wanted).catch((error: unknown) => {
    throw exchange.toProblem(response.status, error);
  });
  const claims = getValidatedIdTokenClaims(token);
  const email = claims?.["email_verified"] === true ? claims["email"] : undefined;
  return {
    accessToken: new Secret(token.access_token),
    refreshToken: token.refresh_token === undefined ? undefined : new Secret(token.refresh_token),
    scopes: token.scope?.split(" ") ?? null,
    email: typeof email === "string" ? email : undefined,
  };
}

function readCode(read: () => URLSearchParams): URLSearchParams {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof OperationProcessingError)) throw error;
    throw new Problem("token", "The answer belongs to another provider or another sign-in", {
      retry: "never",
      cause: error,
    });
  }
}
