/** A route is one value: how it is called, what it answers (for the documentation) and the work it does. */
import type { Context } from "hono";
import * as v from "valibot";
import { Problem, type ProblemCode } from "../../shared/contract/problem.ts";
import { fieldErrors } from "./field-errors.ts";
import { readJson } from "./body.ts";

export type Method = "get" | "post" | "put" | "patch" | "delete";

/** One possible answer: its content type (application/json unless told otherwise, null for no body) and schema. */
export type Answer = {
  about: string;
  schema?: v.GenericSchema;
  type?: string | null;
  headers?: Record<string, string>;
};

/** What the documentation says of a route. `path` in OpenAPI's form, with at most one parameter. */
export type Described = {
  method: Method;
  path: string;
  tag: string;
  summary: string;
  about?: string;
  /** Needs no token. */
  open?: boolean;
  answers: Record<number, Answer>;
  /** Beyond those that follow from having a body, a query or a token. */
  problems: ProblemCode[];
  /** Request headers that mean something here, with what they mean. */
  takes?: Record<string, string>;
  /** How large the body may be, a megabyte if not told otherwise. */
  mostBytes?: number;
  /** Content types of the body other than application/json. */
  bodyTypes?: string[];
};

/** One request to a route, parsed. `id` is the path's parameter, "" where it has none. */
export type Call<Body, Query> = {
  id: string;
  body: Body;
  query: Query;
  request: Request;
  /** Aborts when the client goes away, the node stops, or after `ms`. */
  signal(ms: number): AbortSignal;
};

type Out<S> = S extends v.GenericSchema ? v.InferOutput<S> : undefined;

export type Route = Described & {
  body?: v.GenericSchema;
  query?: v.GenericSchema;
  answer(context: Context, stop: AbortSignal): Promise<Response>;
};

type Handled<B, Q> = Described & {
  body?: B;
  query?: Q;
  handle(call: Call<Out<B>, Out<Q>>): Response | Promise<Response>;
};

/** Joins a description with its handler; the handler sees only what the schemas let through. */
export function route<
  B extends v.GenericSchema | undefined = undefined,
  Q extends v.GenericSchema | undefined = undefined,
>(spec: Handled<B, Q>): Route {
  const { handle, body, query, ...described } = spec;
  const types = ["application/json", ...(described.bodyTypes ?? [])];
  return {
    ...described,
    ...(body && { body }),
    ...(query && { query }),
    async answer(context, stop) {
      const request = context.req.raw;
      const call = {
        id: Object.values(context.req.param())[0] ?? "",
        query: query && parsed(query, numbered(query, context.req.query())),
        body: body && parsed(body, await readJson(request, types, described.mostBytes)),
        request,
        signal: (ms: number) => AbortSignal.any([request.signal, stop, AbortSignal.timeout(ms)]),
      };
      // Body and query were parsed by the schemas these types are inferred from, or are undefined as those are.
      return handle(call as Call<Out<B>, Out<Q>>);
    },
  };
}

/** The value as the schema has it; throws `invalid` with every wrong field. */
export function parsed<S extends v.GenericSchema>(schema: S, input: unknown): v.InferOutput<S> {
  const result = v.safeParse(schema, input);
  if (result.success) return result.output;
  const errors = fieldErrors(schema, result.issues);
  const named = errors.map(({ path, message }) => `${path || "the request"} ${message}`).join("; ");
  throw new Problem("invalid", `Not valid: ${named}`, { retry: "never", errors });
}

/** A query holds only texts: those the schema wants as numbers, or as booleans, become what they say. */
function numbered(schema: v.GenericSchema, query: Record<string, string>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(query).map(([name, text]) => [
      name,
      /^\d{1,15}(\.\d{1,6})?$/.test(text) && wantsNumber(schema, name) ? Number(text) : text,
    ]),
  );
}

function wantsNumber(schema: v.GenericSchema, name: string): boolean {
  const probe = v.safeParse(schema, { [name]: 1 });
  return probe.success || !probe.issues.some((issue) => issue.path?.at(-1)?.key === name && issue.kind === "schema");
}

/** A JSON answer. */
export function json(value: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return Response.json(value, { status, headers: { "cache-control": "no-store", ...headers } });
}
