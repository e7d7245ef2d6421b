/** A route is one value: how it is called, what it answers (for the documentation), and its handler. */
import type { Context } from "hono";
import * as v from "valibot";
import { Problem, type ProblemCode } from "../../shared/contract/problem.ts";
import type { Actor, TokenScope } from "../../shared/contract/token.ts";
import { type ChangeNote, type ChangeStart, fieldNames } from "./audit-trail.ts";
import { fieldErrors, isRecord } from "./field-errors.ts";
import { notFound } from "./problems.ts";
import { readJson } from "./body.ts";

export type Method = "get" | "post" | "put" | "patch" | "delete";

/** One possible answer: its content type (application/json by default, null for no body) and its schema. */
export type ResponseSpec = {
  description: string;
  schema?: v.GenericSchema;
  type?: string | null;
  headers?: Record<string, string>;
};

/** What the documentation says about a route. `path` is in OpenAPI's form, with at most one parameter. */
export type RouteSpec = {
  method: Method;
  path: string;
  tag: string;
  summary: string;
  description?: string;
  /** The scope that a token needs. A public route needs no token. */
  scope: TokenScope | "public";
  responses: Record<number, ResponseSpec>;
  /** Problems beyond those that follow from having a body, a query or a token. */
  problems: ProblemCode[];
  /** Request headers that have a meaning here, with their description. */
  requestHeaders?: Record<string, string>;
  /** The body may be left out. It then counts as `{}`. */
  bodyOptional?: true;
  /** How large the body may be; a megabyte by default. */
  maxBodyBytes?: number;
  /** False for a route that changes nothing although it is no GET, or whose changes have a record of their own. */
  audited?: false;
  /** The body comes in lines, each of this shape. The handler reads it. */
  lines?: { type: string; schema: v.GenericSchema };
  /** Content types of the body other than application/json. */
  bodyTypes?: string[];
};

/** One parsed request to a route. `id` is the path's parameter; "" if there is none. */
export type RouteRequest<Body, Query> = {
  id: string;
  body: Body;
  query: Query;
  request: Request;
  caller: Caller;
  /** Says more about this change than the path and the body do. */
  note(change: ChangeNote): void;
  /** Aborts when the client goes away, the node stops, or after `ms`. */
  signal(ms: number): AbortSignal;
};

type OutputOf<S> = S extends v.GenericSchema ? v.InferOutput<S> : undefined;

/**
 * Where a request comes from: the client's address, and its token's actor. On a public route the actor has no scopes.
 * `untilRevoked` resolves when the token ends, or the signal aborts. `audit` does the work of a change and records it.
 */
export type Caller = {
  address: string;
  actor: Actor;
  untilRevoked(signal: AbortSignal): Promise<void>;
  audit(change: ChangeStart, work: (note: (more: ChangeNote) => void) => Promise<Response>): Promise<Response>;
};

export type Route = RouteSpec & {
  body?: v.GenericSchema;
  query?: v.GenericSchema;
  respond(context: Context, caller: Caller, stop: AbortSignal): Promise<Response>;
};

type RouteWithHandler<B, Q> = RouteSpec & {
  body?: B;
  query?: Q;
  handle(call: RouteRequest<OutputOf<B>, OutputOf<Q>>): Response | Promise<Response>;
};

/** Joins a description with its handler. The handler gets only what the schemas accept. */
export function route<
  B extends v.GenericSchema | undefined = undefined,
  Q extends v.GenericSchema | undefined = undefined,
>(spec: RouteWithHandler<B, Q>): Route {
  const { handle, body, query, ...routeSpec } = spec;
  const types = ["application/json", ...(routeSpec.bodyTypes ?? [])];
  const isChange = routeSpec.method !== "get" && routeSpec.audited !== false && routeSpec.scope !== "public";
  return {
    ...routeSpec,
    ...(body && { body }),
    ...(query && { query }),
    async respond(context, caller, stop) {
      const request = context.req.raw;
      const call = {
        id: Object.values(context.req.param())[0] ?? "",
        query: query && parseInput(query, coerceNumbers(query, context.req.query())),
        body: body && parseInput(body, await readInput(request, types, routeSpec)),
        request,
        caller,
        signal: (ms: number) => AbortSignal.any([request.signal, stop, AbortSignal.timeout(ms)]),
      };
      const named = mailboxesNamed(routeSpec.path, call);
      const foreign = named.find((id) => !id.startsWith(caller.actor.mailboxPrefix));
      if (foreign !== undefined) throw notFound("mailbox", foreign);
      // The schemas of these types have parsed body and query, or both are undefined as the schemas are.
      const work = async (note: (more: ChangeNote) => void) =>
        handle({ ...call, note } as RouteRequest<OutputOf<B>, OutputOf<Q>>);
      if (!isChange) return work(() => undefined);
      const { method, path } = routeSpec;
      const change = { method: method.toUpperCase(), route: path, target: call.id || null, mailbox: named[0] ?? null };
      return caller.audit({ ...change, changed: fieldNames(call.body) }, work);
    },
  };
}

async function readInput(request: Request, types: string[], { bodyOptional, maxBodyBytes }: RouteSpec) {
  const { headers } = request;
  const isLeftOut = !headers.has("content-type") && Number(headers.get("content-length") ?? 0) === 0;
  if (bodyOptional && isLeftOut && !headers.has("transfer-encoding")) return {};
  const input = await readJson(request, types, maxBodyBytes);
  // A schema of an object without members of its own takes a list too.
  if (Array.isArray(input)) throw listProblem();
  return input;
}

function listProblem(): Problem {
  const message = "must be an object, not a list";
  return new Problem("invalid", `Not valid: the request ${message}`, {
    retry: "never",
    errors: [{ path: "", message }],
  });
}

/** The ids of mailboxes in a request: in its path, in its query and in its body. */
function mailboxesNamed(path: string, call: { id: string; query: unknown; body: unknown }): string[] {
  const ofMailboxes = path.startsWith(MAILBOXES_PATH);
  const inBody = isRecord(call.body) ? [call.body["mailbox"], ofMailboxes && call.body["id"]] : [];
  const named = [
    path.startsWith(`${MAILBOXES_PATH}/{id}`) && call.id,
    isRecord(call.query) && call.query["mailbox"],
    ...inBody,
  ];
  return named.filter((id) => typeof id === "string");
}

const MAILBOXES_PATH = "/api/v1/mailboxes";

/** The value as the schema returns it. Throws `invalid` with every wrong field. */
export function parseInput<S extends v.GenericSchema>(schema: S, input: unknown): v.InferOutput<S> {
  const result = v.safeParse(schema, input);
  if (result.success) return result.output;
  const errors = fieldErrors(schema, result.issues);
  const named = errors.map(({ path, message }) => `${path || "the request"} ${message}`).join("; ");
  throw new Problem("invalid", `Not valid: ${named}`, { retry: "never", errors });
}

/** A query holds only texts. Those that the schema wants as numbers or booleans are converted. */
function coerceNumbers(schema: v.GenericSchema, query: Record<string, string>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(query).map(([name, text]) => [
      name,
      /^\d{1,15}(\.\d{1,20})?(e[+-]?\d{1,2})?$/i.test(text) && wantsNumber(schema, name) ? Number(text) : text,
    ]),
  );
}

function wantsNumber(schema: v.GenericSchema, name: string): boolean {
  const probe = v.safeParse(schema, { [name]: 1 });
  return probe.success || !probe.issues.some((issue) => issue.path?.at(-1)?.key === name && issue.kind === "schema");
}

/** A JSON answer. */
export function jsonResponse(value: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return Response.json(value, { status, headers: { "cache-control": "no-store", ...headers } });
}
