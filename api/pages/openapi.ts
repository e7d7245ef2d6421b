/** The OpenAPI 3.1 document, generated from the routes themselves. */
import { type ConversionConfig, toJsonSchema } from "@valibot/to-json-schema";
import type * as v from "valibot";
import { Delivery } from "../../shared/contract/delivery.ts";
import { MailboxInput } from "../../shared/contract/mailbox.ts";
import { PROBLEMS, type ProblemCode } from "../../shared/contract/problem.ts";
import { OutgoingMessage } from "../../shared/contract/outgoing.ts";
import { MessagePart, MessageReceived } from "../../shared/contract/received.ts";
import { MessageSent, SendingView } from "../../shared/contract/sending.ts";
import { isRecord } from "../http/field-errors.ts";
import { MailboxCreated, MailboxView } from "../mailboxes.ts";
import { ProblemDetails } from "../http/problems.ts";
import type { ResponseSpec, Route } from "../http/route.ts";
import { webhookDocs } from "../webhooks.ts";
import { curlOfExample, exampleOf } from "./reference/examples.ts";
import { linksOf } from "./reference/links.ts";
import { meaningOf, rootOfRoute, withMeanings } from "./reference/meanings.ts";

export type JsonObject = Record<string, unknown>;

/** Schemas with a name in the document. Every other schema is written where it is used. */
const NAMED_SCHEMAS = {
  MailboxInput,
  Mailbox: MailboxView,
  MailboxCreated,
  Delivery,
  OutgoingMessage,
  Sending: SendingView,
  MessageReceived,
  MessagePart,
  MessageSent,
  Problem: ProblemDetails,
};

const DESCRIPTION = `Email Listener keeps subscriptions open on mailboxes and posts every new message to an endpoint.

Every path that shows or changes something needs \`Authorization: Bearer <token>\`: one of API_TOKENS, or a token that
\`POST /api/v1/tokens\` made. Each operation names the scope that its token needs; \`admin\` has all scopes. Errors are
\`application/problem+json\` (RFC 9457): \`detail\` says what happened, \`fix\` what to do, \`errors\` which fields are wrong.
Dates are ISO 8601 in UTC.`;

const SCOPES =
  "The scopes are `read`, `manage`, `send`, `metrics` and `admin`. A token that is bound to a prefix of mailbox ids sees only these mailboxes and what belongs to them; for everything else it gets the answer 404.";

/** The document for these routes, served under `base`. */
export function openApiDocument(routes: readonly Route[], version: string, base: string): JsonObject {
  const paths: Record<string, JsonObject> = {};
  for (const route of routes) {
    paths[route.path] = { ...paths[route.path], [route.method]: operation(route) };
  }
  return {
    openapi: "3.1.0",
    info: { title: "Email Listener", version, description: DESCRIPTION, license: { name: "MIT", identifier: "MIT" } },
    servers: [{ url: base || "/" }],
    security: [{ bearer: [] }],
    tags: [...new Set(routes.map((route) => route.tag))].map((name) => ({ name })),
    paths,
    webhooks: webhookDocs({
      message: reference("MessageReceived"),
      part: reference("MessagePart"),
      sent: reference("MessageSent"),
    }),
    components: {
      securitySchemes: { bearer: { type: "http", scheme: "bearer", description: SCOPES } },
      schemas: Object.fromEntries(
        Object.entries(NAMED_SCHEMAS).map(([name, schema]) => [name, withMeanings(inlineSchema(schema), [name])]),
      ),
    },
  };
}

function operation(route: Route): JsonObject {
  const { method, path, tag, scope, summary, description: about, body, bodyTypes = [] } = route;
  const { lines } = route;
  const types = lines ? [lines.type] : ["application/json", ...bodyTypes];
  const shape = lines?.schema ?? body;
  const example = exampleOf(route);
  const given = example?.body === undefined ? {} : { example: example.body };
  const sample = example && curlOfExample(method, path, example, scope === "public");
  return {
    operationId: operationId(method, path),
    tags: [tag],
    summary,
    ...(about && { description: about }),
    security: scope === "public" ? [] : [{ bearer: [scope] }],
    parameters: [...pathParameters(route), ...queryParameters(route), ...headerParameters(route)],
    ...(shape && {
      requestBody: {
        required: route.bodyOptional !== true,
        content: Object.fromEntries(
          types.map((type) => [
            type,
            { schema: withMeanings(schemaOrReference(shape), [rootOfRoute(path)]), ...given },
          ]),
        ),
      },
    }),
    responses: responses(route),
    ...(sample !== undefined && { "x-codeSamples": [{ lang: "Shell", source: sample }] }),
  };
}

/** Such as `postMailboxesIdPause`: stable, unique, and a good method name for a generated client. */
function operationId(method: string, path: string): string {
  const words = path
    .replace("/api/v1", "")
    .split(/[^A-Za-z0-9]+/)
    .filter(Boolean);
  return (
    method + (words.length > 0 ? words.map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join("") : "Root")
  );
}

function pathParameters(route: Route): JsonObject[] {
  const { path } = route;
  const example = exampleOf(route)?.id;
  return [...path.matchAll(/\{(\w+)\}/g)].map(([, name = ""]) => ({
    name,
    in: "path",
    required: true,
    description: meaningOf([rootOfRoute(path), "path", name]),
    ...(example !== undefined && { example }),
    schema: { type: "string" },
  }));
}

function queryParameters(route: Route): JsonObject[] {
  const { path, query } = route;
  const examples = exampleOf(route)?.query ?? {};
  const schema = query ? inlineSchema(query) : {};
  const properties = isRecord(schema["properties"]) ? schema["properties"] : {};
  const required = Array.isArray(schema["required"]) ? schema["required"] : [];
  return Object.entries(properties).map(([name, property]) => {
    const { description, ...rest } = isRecord(property) ? property : {};
    return {
      name,
      in: "query",
      required: required.includes(name),
      description: description ?? meaningOf([rootOfRoute(path), "query", name]),
      ...(examples[name] !== undefined && { example: examples[name] }),
      schema: rest,
    };
  });
}

function headerParameters({ problems, requestHeaders: takes = {} }: Route): JsonObject[] {
  const revision = problems.includes("precondition") ? { "if-match": "The ETag it must still have." } : {};
  return Object.entries({ ...revision, ...takes }).map(([name, description]) => ({
    name,
    in: "header",
    required: false,
    description,
    schema: { type: "string" },
  }));
}

/** The problems that a route names, and those that follow from its shape: a body, a query, a token, a store. */
function responses(route: Route): JsonObject {
  const codes: ProblemCode[] = [
    ...route.problems,
    ...(route.body || route.query ? (["invalid"] as const) : []),
    ...(route.lines ? (["media_type"] as const) : []),
    ...(route.body ? (["malformed", "media_type", "too_large", "timeout"] as const) : []),
    // A token that is bound to a prefix gets it for the mailbox of another, wherever the request names one.
    ...(["read", "manage", "send"].includes(route.scope) ? (["not_found"] as const) : []),
    ...(route.scope === "public" ? [] : (["unauthorized", "forbidden", "scope", "guesses", "store"] as const)),
    "internal",
  ];
  const name = operationId(route.method, route.path);
  const successes = Object.entries(route.responses).map(([status, answer]) => {
    const links = linksOf(name, status);
    return [status, { ...response(answer, rootOfRoute(route.path)), ...(links && { links }) }] as const;
  });
  const failures = Map.groupBy(new Set(codes), (code) => String(PROBLEMS[code].status));
  const problems = [...failures].map(([status, group]) => {
    const description = group.map((code) => `${PROBLEMS[code].title} (\`${code}\`)`).join("; ");
    return [
      status,
      { description, content: { "application/problem+json": { schema: reference("Problem") } } },
    ] as const;
  });
  return Object.fromEntries([...problems, ...successes]);
}

function response(
  { description: about, schema, type = "application/json", headers = {} }: ResponseSpec,
  root: string,
): JsonObject {
  const shape = schema ? withMeanings(schemaOrReference(schema), [root]) : { type: "string" };
  const content = type === null ? {} : { content: { [type]: { schema: shape } } };
  const named = Object.entries(headers).map(([name, description]) => [
    name,
    { description, schema: { type: "string" } },
  ]);
  return { description: about, ...(named.length > 0 && { headers: Object.fromEntries(named) }), ...content };
}

function reference(name: keyof typeof NAMED_SCHEMAS): JsonObject {
  return { $ref: `#/components/schemas/${name}` };
}

/** A reference if the schema has a name, else the schema itself. */
function schemaOrReference(schema: v.GenericSchema): JsonObject {
  return toJson(schema, {
    definitions: NAMED_SCHEMAS,
    overrideRef: ({ referenceId }) => `#/components/schemas/${referenceId}`,
  });
}

/** The schema itself, even if it has a name. */
function inlineSchema(schema: v.GenericSchema): JsonObject {
  const others = Object.fromEntries(Object.entries(NAMED_SCHEMAS).filter(([, named]) => named !== schema));
  return toJson(schema, {
    definitions: others,
    overrideRef: ({ referenceId }) => `#/components/schemas/${referenceId}`,
  });
}

function toJson(schema: v.GenericSchema, config: ConversionConfig): JsonObject {
  const {
    $schema: _,
    $defs: __,
    ...rest
  } = toJsonSchema(schema, {
    target: "draft-2020-12",
    typeMode: "input",
    ...config,
    overrideAction: ({ valibotAction, jsonSchema }) => {
      if (valibotAction.type !== "regex" || !("requirement" in valibotAction)) return undefined;
      if (!(valibotAction.requirement instanceof RegExp)) return undefined;
      const pattern = portablePattern(valibotAction.requirement);
      // Two patterns in one pipe: JSON Schema has room for one, so the others go into allOf.
      if (jsonSchema.pattern === valibotAction.requirement.source) return { ...jsonSchema, pattern };
      return { ...jsonSchema, allOf: [...(jsonSchema.allOf ?? []), { pattern }] };
    },
  });
  return rest;
}

/** The pattern without what other regular expressions than those of JavaScript do not know. */
function portablePattern({ source }: RegExp): string {
  return source.replaceAll("\\0", "\\x00").replaceAll("\\p{Cc}", "\\x00-\\x1f\\x7f-\\x9f");
}
