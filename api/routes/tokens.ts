/** /api/v1/tokens: make, list and remove tokens of the API. */
import * as v from "valibot";
import { Problem } from "../../shared/contract/problem.ts";
import { Token, TokenScope } from "../../shared/contract/token.ts";
import { clock } from "../../shared/time.ts";
import type { ApiDeps } from "../deps.ts";
import { notFound } from "../http/problems.ts";
import { jsonResponse, route, type Route } from "../http/route.ts";
import { generateToken } from "../http/token-form.ts";

type TokenRoutesDeps = Pick<ApiDeps, "config" | "store">;

const tag = "Tokens";
const LIST_PATH = "/api/v1/tokens";
const TOKEN_PATH = `${LIST_PATH}/{id}`;

const TokenInput = v.strictObject({
  name: v.pipe(
    v.string(),
    v.minLength(1),
    v.maxLength(100),
    v.regex(/^[^\p{Cc}]*$/u, "must not contain control characters"),
    v.description("What the token is for. The audit shows it."),
  ),
  scopes: v.pipe(v.array(TokenScope), v.minLength(1, "must name at least one scope"), v.maxLength(5)),
  mailboxPrefix: v.optional(
    v.pipe(
      v.string(),
      v.maxLength(64),
      v.regex(/^[A-Za-z0-9._-]*$/, "may use A-Z a-z 0-9 . _ - only"),
      v.description(
        "The token sees only mailboxes whose ids begin so, and what belongs to them. End it with a character that ends a name, such as the hyphen of `acme-`. Empty for all mailboxes.",
      ),
    ),
    "",
  ),
  expiresAt: v.optional(
    v.nullable(v.pipe(v.string(), v.isoTimestamp("must be an ISO 8601 date and time, such as 2027-01-31T00:00:00Z"))),
    null,
  ),
});
type TokenInput = v.InferOutput<typeof TokenInput>;

const TokenView = v.omit(Token, ["hash"]);
const TokenPage = v.object({
  items: v.array(TokenView),
  unreadable: v.pipe(
    v.array(v.string()),
    v.description(
      "Ids of stored tokens that no key of ENCRYPTION_KEYS decrypts, because somebody wrote them past the service, or because a key is missing. They are not accepted.",
    ),
  ),
});
const TokenCreated = v.object({
  ...TokenView.entries,
  token: v.pipe(v.string(), v.description("The token. Only this answer shows it.")),
});

export function tokenRoutes(deps: TokenRoutesDeps): Route[] {
  return [list(deps), create(deps), read(deps), remove(deps)];
}

function list({ store }: TokenRoutesDeps): Route {
  return route({
    method: "get",
    path: LIST_PATH,
    tag,
    scope: "admin",
    summary: "List the tokens",
    description:
      "All tokens that were made here, at most 1,000, the oldest first. Those of API_TOKENS and METRICS_TOKENS are not among them. `lastUsedAt` may be a minute late.",
    responses: { 200: { description: "The tokens", schema: TokenPage } },
    problems: [],
    async handle() {
      const { tokens, unreadable } = await store.tokens.list();
      return jsonResponse({ items: tokens.map((token) => v.parse(TokenView, token)), unreadable });
    },
  });
}

function create({ config, store }: TokenRoutesDeps): Route {
  return route({
    method: "post",
    path: LIST_PATH,
    tag,
    scope: "admin",
    summary: "Make a token",
    description:
      "`read` sees mailboxes, deliveries, messages, sendings and facts. `manage` registers and changes mailboxes, replays and drops what is parked. `send` sends messages. `metrics` reads /metrics. `admin` may do everything. Each scope but `admin` stands alone: a client that also reads needs `read` too.",
    body: TokenInput,
    responses: {
      201: { description: "The token", schema: TokenCreated, headers: { location: "The path of the token." } },
    },
    problems: ["conflict"],
    async handle({ body, caller, note }) {
      checkInput(body);
      const { id, token, hash } = generateToken();
      const made: Token = {
        ...body,
        id,
        hash,
        scopes: [...new Set(body.scopes)],
        createdAt: new Date(clock.now()).toISOString(),
        createdBy: caller.actor.id,
        lastUsedAt: null,
      };
      note({ target: id });
      await store.tokens.add(made);
      const location = `${config.BASE_PATH}${LIST_PATH}/${id}`;
      return jsonResponse({ ...v.parse(TokenView, made), token }, 201, { location });
    },
  });
}

/** Whoever may do everything, or sees the counts of all mailboxes, cannot be bound to some of them. */
function checkInput({ scopes, mailboxPrefix, expiresAt }: TokenInput): void {
  const unbound = scopes.find((scope) => scope === "admin" || scope === "metrics");
  if (mailboxPrefix !== "" && unbound !== undefined)
    throw invalidField("mailboxPrefix", `must be empty for the scope ${unbound}, which concerns all mailboxes`);
  if (expiresAt !== null && Date.parse(expiresAt) <= clock.now())
    throw invalidField("expiresAt", "must be in the future");
}

function invalidField(path: string, message: string): Problem {
  return new Problem("invalid", `Not valid: ${path} ${message}.`, { retry: "never", errors: [{ path, message }] });
}

function read({ store }: TokenRoutesDeps): Route {
  return route({
    method: "get",
    path: TOKEN_PATH,
    tag,
    scope: "admin",
    summary: "Read a token",
    responses: { 200: { description: "The token without its secret", schema: TokenView } },
    problems: ["not_found"],
    async handle({ id }) {
      const token = await store.tokens.get(id);
      if (!token) throw notFound("token", id);
      return jsonResponse(v.parse(TokenView, token));
    },
  });
}

function remove({ store }: TokenRoutesDeps): Route {
  return route({
    method: "delete",
    path: TOKEN_PATH,
    tag,
    scope: "admin",
    summary: "Revoke a token",
    description:
      "From now on no node accepts a request with it. Its open event streams end within five seconds. Requests that are being answered are finished.",
    responses: { 204: { description: "Revoked", type: null } },
    problems: ["not_found"],
    async handle({ id }) {
      if (!(await store.tokens.remove(id))) throw notFound("token", id);
      return new Response(null, { status: 204 });
    },
  });
}
