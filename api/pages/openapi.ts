/** The OpenAPI 3.1 document, made from the routes themselves: a route that is not described here does not exist. */
import { type ConversionConfig, toJsonSchema } from "@valibot/to-json-schema";
import type * as v from "valibot";
import { Delivery } from "../../shared/contract/delivery.ts";
import { MailboxInput } from "../../shared/contract/mailbox.ts";
import { PROBLEMS, type ProblemCode } from "../../shared/contract/problem.ts";
import { OutgoingMessage } from "../../shared/contract/outgoing.ts";
import { MessagePart, MessageReceived } from "../../shared/contract/received.ts";
import { MessageSent, SendingShown } from "../../shared/contract/sending.ts";
import { isRecord } from "../http/field-errors.ts";
import { MailboxCreated, MailboxShown } from "../mailboxes.ts";
import { ProblemAnswer } from "../http/problems.ts";
import type { Answer, Route } from "../http/route.ts";
import { webhooks } from "../webhooks.ts";

export type Json = Record<string, unknown>;

/** What has a name in the document; every other schema is written where it is used. */
const NAMED = {
  MailboxInput,
  Mailbox: MailboxShown,
  MailboxCreated,
  Delivery,
  OutgoingMessage,
  Sending: SendingShown,
  MessageReceived,
  MessagePart,
  MessageSent,
  Problem: ProblemAnswer,
};

const ABOUT = `Email Listener keeps subscriptions open on mailboxes and posts every new message to an endpoint.

Every path that shows or changes something needs \`Authorization: Bearer <token>\` with one of API_TOKENS. Errors are
\`application/problem+json\` (RFC 9457): \`detail\` says what happened, \`fix\` what to do, \`errors\` which fields are wrong.
Dates are ISO 8601 in UTC.`;

/** The document for those routes, served under `base`. */
export function openApiDocument(routes: readonly Route[], version: string, base: string): Json {
  const paths: Record<string, Json> = {};
  for (const route of routes) {
    paths[route.path] = { ...paths[route.path], [route.method]: operation(route) };
  }
  return {
    openapi: "3.1.0",
    info: { title: "Email Listener", version, description: ABOUT, license: { name: "MIT", identifier: "MIT" } },
    servers: [{ url: base || "/" }],
    security: [{ bearer: [] }],
    tags: [...new Set(routes.map((route) => route.tag))].map((name) => ({ name })),
    paths,
    webhooks: webhooks({
      message: reference("MessageReceived"),
      part: reference("MessagePart"),
      sent: reference("MessageSent"),
    }),
    components: {
      securitySchemes: { bearer: { type: "http", scheme: "bearer" } },
      schemas: Object.fromEntries(Object.entries(NAMED).map(([name, schema]) => [name, written(schema)])),
    },
  };
}

function operation(route: Route): Json {
  const { method, path, tag, summary, about, body, bodyTypes = [] } = route;
  const types = ["application/json", ...bodyTypes];
  return {
    operationId: operationId(method, path),
    tags: [tag],
    summary,
    ...(about && { description: about }),
    ...(route.open && { security: [] }),
    parameters: [...pathParameters(path), ...queryParameters(route), ...headerParameters(route)],
    ...(body && {
      requestBody: {
        required: true,
        content: Object.fromEntries(types.map((type) => [type, { schema: described(body) }])),
      },
    }),
    responses: responses(route),
  };
}

/** Such as `postMailboxesIdPause`: stable, unique, and a fair method name for a generated client. */
function operationId(method: string, path: string): string {
  const words = path
    .replace("/api/v1", "")
    .split(/[^A-Za-z0-9]+/)
    .filter(Boolean);
  return (
    method + (words.length > 0 ? words.map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join("") : "Root")
  );
}

function pathParameters(path: string): Json[] {
  return [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
    name,
    in: "path",
    required: true,
    schema: { type: "string" },
  }));
}

function queryParameters({ query }: Route): Json[] {
  const schema = query ? written(query) : {};
  const properties = isRecord(schema["properties"]) ? schema["properties"] : {};
  const required = Array.isArray(schema["required"]) ? schema["required"] : [];
  return Object.entries(properties).map(([name, property]) => {
    const { description, ...rest } = isRecord(property) ? property : {};
    return {
      name,
      in: "query",
      required: required.includes(name),
      ...(description !== undefined && { description }),
      schema: rest,
    };
  });
}

function headerParameters({ problems, takes = {} }: Route): Json[] {
  const revision = problems.includes("precondition") ? { "if-match": "The ETag it must still have." } : {};
  return Object.entries({ ...revision, ...takes }).map(([name, description]) => ({
    name,
    in: "header",
    required: false,
    description,
    schema: { type: "string" },
  }));
}

/** The problems a route names, and those that follow from its shape: a body, a query, a token, a store. */
function responses(route: Route): Json {
  const codes: ProblemCode[] = [
    ...route.problems,
    ...(route.body || route.query ? (["invalid"] as const) : []),
    ...(route.body ? (["malformed", "media_type", "too_large", "timeout"] as const) : []),
    ...(route.open ? [] : (["unauthorized", "forbidden", "store"] as const)),
    "internal",
  ];
  const answers = Object.entries(route.answers).map(([status, answer]) => [status, response(answer)] as const);
  const failures = Map.groupBy(new Set(codes), (code) => String(PROBLEMS[code].status));
  const problems = [...failures].map(([status, group]) => {
    const description = group.map((code) => `${PROBLEMS[code].title} (\`${code}\`)`).join("; ");
    return [
      status,
      { description, content: { "application/problem+json": { schema: reference("Problem") } } },
    ] as const;
  });
  return Object.fromEntries([...problems, ...answers]);
}

function response({ about, schema, type = "application/json", headers = {} }: Answer): Json {
  const content =
    type === null ? {} : { content: { [type]: { schema: schema ? described(schema) : { type: "string" } } } };
  const named = Object.entries(headers).map(([name, description]) => [
    name,
    { description, schema: { type: "string" } },
  ]);
  return { description: about, ...(named.length > 0 && { headers: Object.fromEntries(named) }), ...content };
}

function reference(name: keyof typeof NAMED): Json {
  return { $ref: `#/components/schemas/${name}` };
}

/** A reference where the schema has a name, else the schema itself. */
function described(schema: v.GenericSchema): Json {
  return toJson(schema, {
    definitions: NAMED,
    overrideRef: ({ referenceId }) => `#/components/schemas/${referenceId}`,
  });
}

/** The schema itself, even where it has a name. */
function written(schema: v.GenericSchema): Json {
  const others = Object.fromEntries(Object.entries(NAMED).filter(([, named]) => named !== schema));
  return toJson(schema, {
    definitions: others,
    overrideRef: ({ referenceId }) => `#/components/schemas/${referenceId}`,
  });
}

function toJson(schema: v.GenericSchema, config: ConversionConfig): Json {
  const {
    $schema: _,
    $defs: __,
    ...rest
  } = toJsonSchema(schema, {
    target: "draft-2020-12",
    typeMode: "input",
    ...config,
    overrideAction: ({ valibotAction, jsonSchema }) => {
      // Two patterns in one pipe: JSON Schema has room for one, so the others go into allOf.
      if (valibotAction.type !== "regex" || jsonSchema.pattern === undefined) return undefined;
      if (!("requirement" in valibotAction) || !(valibotAction.requirement instanceof RegExp)) return undefined;
      const more = { pattern: valibotAction.requirement.source };
      return { ...jsonSchema, allOf: [...(jsonSchema.allOf ?? []), more] };
    },
  });
  return rest;
}
