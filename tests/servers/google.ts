/**
 * A small fake of Google's sign-in: the authorization endpoint, where the person whom a test names signs in at once, and
 * the token endpoint with codes, PKCE, ID tokens and refresh tokens. It has no mail: a test lets a mail server know the
 * access tokens.
 */
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { text } from "node:stream/consumers";
import { listenOn } from "./ports.ts";

/** Who signs in at the next authorization, and what comes of it. */
export type Person = {
  email: string;
  /** Google has verified the address; true by default. */
  verified?: boolean;
  /** Google's error in place of a code. */
  error?: string;
  /** Boxes that the person does not tick. */
  unticked?: string[];
  /** Google gives no refresh token, as at a second consent without a prompt. */
  noRefreshToken?: boolean;
};

type Grant = Person & { scopes: string[] };
type Code = Grant & { redirectUri: string; challenge: string; nonce: string };

export type Google = {
  authorizeUrl: string;
  tokenUrl: string;
  clientId: string;
  clientSecret: string;
  redirectUris: string[];
  /** The queries of the authorization endpoint and the forms of the token endpoint, in order. */
  asked: URLSearchParams[];
  tokenRequests: URLSearchParams[];
  /** The access tokens for this address so far. */
  givenTo(email: string): string[];
  signIn(person: Person): void;
  /** All that a person consented to ends. */
  revoke(email: string): void;
  stop(): Promise<void>;
};

/** Starts it on a free port. `onToken` gets every access token before anybody else, with its person's address. */
export async function startGoogle(onToken: (email: string, token: string) => Promise<void>): Promise<Google> {
  const codes = new Map<string, Code>();
  const refreshTokens = new Map<string, Grant>();
  const given: { email: string; token: string }[] = [];
  let person: Person | undefined;
  let origin = "";
  const google = {
    clientId: `${randomUUID()}.apps.example`,
    clientSecret: `GOCSPX-${randomBytes(16).toString("base64url")}`,
    redirectUris: [] as string[],
    asked: [] as URLSearchParams[],
    tokenRequests: [] as URLSearchParams[],
  };

  const authorize = (query: URLSearchParams, response: ServerResponse) => {
    google.asked.push(query);
    const redirectUri = query.get("redirect_uri") ?? "";
    const isKnown = query.get("client_id") === google.clientId && google.redirectUris.includes(redirectUri);
    if (!isKnown || !person) return response.writeHead(400).end("Error 400: redirect_uri_mismatch");
    const back = new URL(redirectUri);
    back.searchParams.set("state", query.get("state") ?? "");
    back.searchParams.set("iss", origin);
    if (person.error !== undefined) back.searchParams.set("error", person.error);
    else {
      const scopes = (query.get("scope") ?? "").split(" ").filter((one) => !person?.unticked?.includes(one));
      const code = `4/${randomBytes(32).toString("base64url")}`;
      const [challenge, nonce] = [query.get("code_challenge") ?? "", query.get("nonce") ?? ""];
      codes.set(code, { ...person, scopes, redirectUri, challenge, nonce });
      back.searchParams.set("code", code);
      back.searchParams.set("scope", scopes.join(" "));
    }
    return response.writeHead(302, { location: back.href }).end();
  };

  const answer = async (form: URLSearchParams): Promise<[status: number, body: object]> => {
    google.tokenRequests.push(form);
    if (form.get("client_id") !== google.clientId || form.get("client_secret") !== google.clientSecret)
      return [401, { error: "invalid_client", error_description: "Unauthorized" }];
    const refresh = form.get("refresh_token");
    const code = codes.get(form.get("code") ?? "");
    codes.delete(form.get("code") ?? "");
    const digest = createHash("sha256")
      .update(form.get("code_verifier") ?? "")
      .digest("base64url");
    const isGood = code && code.redirectUri === form.get("redirect_uri") && code.challenge === digest;
    const grant = refresh === null ? (isGood ? code : undefined) : refreshTokens.get(refresh);
    if (!grant) return [400, { error: "invalid_grant", error_description: "Token has been expired or revoked." }];
    const token = `ya29.${randomBytes(32).toString("base64url")}`;
    given.push({ email: grant.email, token });
    await onToken(grant.email, token);
    const response = { access_token: token, expires_in: 3599, token_type: "Bearer", scope: grant.scopes.join(" ") };
    if (!isGood) return [200, response];
    const idToken = issueIdToken(origin, google.clientId, code);
    if (code.noRefreshToken) return [200, { ...response, id_token: idToken }];
    const next = `1//${randomBytes(32).toString("base64url")}`;
    refreshTokens.set(next, grant);
    return [200, { ...response, id_token: idToken, refresh_token: next }];
  };

  const handle = async (request: IncomingMessage, response: ServerResponse) => {
    const url = new URL(request.url ?? "/", origin);
    if (url.pathname === "/auth") return void authorize(url.searchParams, response);
    const [status, body] = await answer(new URLSearchParams(await text(request)));
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  };
  const server = createServer((request, response) => void handle(request, response));
  const port = await listenOn(server, 0);
  origin = `http://127.0.0.1:${port}`;
  return Object.assign(google, {
    authorizeUrl: `${origin}/auth`,
    tokenUrl: `${origin}/token`,
    givenTo: (email: string) => given.filter((one) => one.email === email).map(({ token }) => token),
    signIn: (next: Person) => void (person = next),
    revoke(email: string) {
      for (const [token, grant] of refreshTokens) if (grant.email === email) refreshTokens.delete(token);
    },
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  });
}

function issueIdToken(iss: string, aud: string, { email, verified = true, nonce }: Code): string {
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss, aud, sub: email, email, email_verified: verified, nonce, iat: now, exp: now + 3600 };
  const parts = [{ alg: "RS256", typ: "JWT", kid: "fake" }, claims].map((one) =>
    Buffer.from(JSON.stringify(one)).toString("base64url"),
  );
  return [...parts, randomBytes(64).toString("base64url")].join(".");
}
