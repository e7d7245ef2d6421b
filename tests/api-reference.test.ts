/** The reference: a valid OpenAPI document that knows every route, and a page of it that needs nothing from elsewhere. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { Validator } from "@seriousme/openapi-schema-validator";
import { createApp } from "../api/app.ts";
import type { ApiDeps } from "../api/deps.ts";
import { keyOfField, MEANINGS, rootOfRoute } from "../api/pages/reference/meanings.ts";
import { readConfig } from "../shared/config.ts";
import { PROBLEMS } from "../shared/contract/problem.ts";
import { factStream } from "../shared/telemetry/events.ts";
import { type ApiNode, startApi } from "./api-node.ts";
import { exampleBody } from "./bodies.ts";

/** The paths that programs call. All others are for browsers, or for Graph alone. */
const OF_PROGRAMS = /^\/(api\/|healthz|readyz|metrics|docs|openapi\.json)/;

let node: ApiNode;
let document: any;
before(async () => {
  node = await startApi();
  document = (await node.call("GET", "/openapi.json")).body;
});
after(() => node.close());

const operations = () =>
  Object.entries<any>(document.paths).flatMap(([path, methods]) =>
    Object.entries<any>(methods).map(([method, operation]) => ({ path, method, operation })),
  );

type Field = { path: string[]; field: any };

/** Every field and parameter of the document, with its path. */
function* fieldsOf(whole: any): Generator<Field> {
  for (const [name, schema] of Object.entries<any>(whole.components.schemas)) yield* membersOf(schema, [name]);
  for (const { path, operation } of operations()) {
    const root = rootOfRoute(path);
    for (const one of operation.parameters) yield { path: [root, one.in, one.name], field: one };
    const answers = Object.values<any>(operation.responses);
    for (const { content = {} } of [operation.requestBody ?? {}, ...answers])
      for (const { schema } of Object.values<any>(content)) yield* membersOf(schema, [root]);
  }
}

function* membersOf(schema: any, at: string[]): Generator<Field> {
  for (const [name, field] of Object.entries<any>(schema.properties ?? {})) {
    const path = [...at, name];
    yield { path, field };
    yield* membersOf(field, path);
  }
  const inner = [schema.anyOf, schema.oneOf, schema.allOf, schema.items, schema.additionalProperties].flat();
  for (const one of inner) if (one) yield* membersOf(one, at);
}

describe("openapi.json", () => {
  test("is a valid OpenAPI 3.1 document", async () => {
    const result = await new Validator().validate(structuredClone(document));
    assert.ok(result.valid, JSON.stringify(result.errors, null, 1));
    assert.equal(document.openapi, "3.1.0");
  });

  test("has every route of the API and no other", () => {
    // Routes are all the app is asked for here; nothing is called.
    const deps = { config: readConfig({}), version: "0", facts: factStream(), store: {} } as ApiDeps;
    const app = createApp(deps, new AbortController().signal);
    const served = app.routes
      .filter(({ method, path }) => method !== "ALL" && OF_PROGRAMS.test(path))
      .map(({ method, path }) => `${method} ${path.replace(/\/:(\w+)/g, "/{$1}")}`);
    const known = operations().map(({ method, path }) => `${method.toUpperCase()} ${path}`);
    assert.deepEqual(known.toSorted(), [...new Set(served)].toSorted());
  });

  test("gives every operation a name of its own, a summary, and the problems it may answer", () => {
    const names = operations().map(({ operation }) => operation.operationId);
    assert.equal(new Set(names).size, names.length);
    for (const { path, method, operation } of operations()) {
      const at = `${method} ${path}`;
      assert.ok(operation.summary.length > 0, at);
      assert.ok(operation.responses["500"], at);
      if (operation.security === undefined) assert.ok(operation.responses["401"], at);
      if (operation.requestBody) assert.ok(operation.responses["415"], at);
      if (operation.requestBody?.content["application/json"])
        for (const status of ["400", "413", "415", "422"]) assert.ok(operation.responses[status], at);
      if (path.includes("{"))
        assert.ok(operation.responses["404"] ?? (method === "put" || path.startsWith("/graph/")), at);
    }
  });

  test("says of every field what it means, and has no meaning that is no field's", () => {
    const used = new Set<string>();
    const fields = [...fieldsOf(document)];
    assert.ok(fields.length > 1000);
    const silent = fields.filter(({ path, field }) => {
      const key = keyOfField(path);
      if (key !== undefined && MEANINGS.get(key) === field.description) used.add(key);
      return !field.description;
    });
    assert.deepEqual([...new Set(silent.map(({ path }) => path.join(".")))], []);
    assert.deepEqual(
      [...MEANINGS.keys()].filter((key) => !used.has(key)),
      [],
    );
    for (const meaning of MEANINGS.values()) assert.match(meaning, /\.$/, meaning);
  });

  test("leaves no reference open", () => {
    const names = [...JSON.stringify(document).matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)].map(
      ([, name]) => name,
    );
    assert.ok(names.length > 10);
    for (const name of new Set(names)) assert.ok(document.components.schemas[name ?? ""], name);
    assert.ok(!JSON.stringify(document).includes("#/$defs/"));
  });

  test("has only patterns that every kind of regular expression reads", () => {
    const patterns = [...JSON.stringify(document).matchAll(/"pattern":"((?:[^"\\\\]|\\\\.)*)"/g)].map(
      ([, text = ""]) => JSON.parse(`"${text}"`) as string,
    );
    assert.ok(patterns.length > 10);
    assert.deepEqual(
      patterns.filter((pattern) => /\\0|\\p\{|\(\?<[=!]/.test(pattern)),
      [],
    );
  });

  test("describes what an endpoint receives", () => {
    const { post } = document.webhooks.messageReceived;
    assert.ok(post.requestBody.content["application/json"].schema.$ref.endsWith("/MessageReceived"));
    const headers = post.parameters.map((parameter: { name: string }) => parameter.name);
    assert.deepEqual(headers, ["webhook-id", "webhook-timestamp", "webhook-signature"]);
  });

  test("asks for the same members as the API and shows no secret in what it answers", async () => {
    const { MailboxInput, Mailbox } = document.components.schemas;
    assert.deepEqual(MailboxInput.required, ["address", "receive", "deliver"]);
    const shown = JSON.stringify(Mailbox);
    for (const secret of ["password", "accessToken", "clientSecret", "refreshToken", "secret"]) {
      assert.ok(!shown.includes(`"${secret}":`), secret);
    }
    const made = await node.call("POST", "/api/v1/mailboxes", exampleBody({ name: "Help" }));
    for (const member of Object.keys(made.body)) assert.ok(Mailbox.properties[member], member);
  });
});

describe("the page of the reference", () => {
  test("loads nothing, runs nothing, and styles itself by the hash its policy names", async () => {
    const { headers, text } = await node.call("GET", "/docs");
    const policy = headers.get("content-security-policy") ?? "";
    assert.match(policy, /^default-src 'none'/);
    assert.ok(!/<script|<img|<link|src=|@import|url\(/.test(text));
    const style = /<style>([^]*)<\/style>/.exec(text)?.[1] ?? "";
    assert.ok(policy.includes(`'sha256-${createHash("sha256").update(style).digest("base64")}'`));
  });

  test("has a paragraph for every problem, where the type of an error leads", async () => {
    const { text } = await node.call("GET", "/docs");
    for (const code of Object.keys(PROBLEMS)) assert.ok(text.includes(`id="problem-${code}"`), code);
    for (const { operation } of operations()) assert.ok(text.includes(`id="${operation.operationId}"`));
    const ids = [...text.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id);
    assert.equal(new Set(ids).size, ids.length);
    for (const [, target] of text.matchAll(/href="#([^"]+)"/g)) assert.ok(ids.includes(target ?? ""), target);
  });
});
