/** The reference page: renders the OpenAPI document for people, without loading anything from elsewhere. */
import { html } from "hono/html";
import { PROBLEMS } from "../../shared/contract/problem.ts";
import { isRecord } from "../http/field-errors.ts";
import { type Html, inlineMarkdown } from "./html.ts";
import type { JsonObject } from "./openapi.ts";

/** Renders the document as the body of a page. `base` is the prefix of its links. */
export function renderDocs(document: JsonObject, base: string): Html {
  const info = recordAt(document, "info");
  const operations = operationsOf(recordAt(document, "paths"));
  const webhooks = operationsOf(recordAt(document, "webhooks"));
  const tags = [...new Set(operations.map(({ spec }) => tagOf(spec)))];
  const schemas = Object.entries(recordAt(recordAt(document, "components"), "schemas"));
  return html`<h1>${textAt(info, "title")}</h1>
    <p class="soft">
      Version ${textAt(info, "version")} &middot; <a href="${base}/">start</a> &middot;
      <a href="${base}/openapi.json">openapi.json</a>
    </p>
    ${textAt(info, "description")
      .split("\n\n")
      .map((paragraph) => html`<p>${inlineMarkdown(paragraph)}</p>`)}
    <p class="soft">
      The examples are for a shell: <code>URL</code> is the address of the service, <code>TOKEN</code> your token.
    </p>
    <nav>
      ${[...tags, "Webhooks", "Schemas", "Problems"].map((tag) => html`<a href="#${tag.toLowerCase()}">${tag}</a>`)}
    </nav>
    ${tags.map(
      (tag) =>
        html`<h2 id="${tag.toLowerCase()}">${tag}</h2>
          ${operations.filter(({ spec }) => tagOf(spec) === tag).map(renderOperation)}`,
    )}
    <h2 id="webhooks">Webhooks</h2>
    ${webhooks.map(renderOperation)}
    <h2 id="schemas">Schemas</h2>
    ${schemas.map(([name, schema]) => renderNamedSchema(name, isRecord(schema) ? schema : {}))}
    <h2 id="problems">Problems</h2>
    ${renderProblems()}`;
}

type Operation = { method: string; path: string; spec: JsonObject };

function operationsOf(paths: JsonObject): Operation[] {
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(isRecord(methods) ? methods : {}).map(([method, spec]) => ({
      method,
      path,
      spec: isRecord(spec) ? spec : {},
    })),
  );
}

function renderOperation({ method, path, spec }: Operation): Html {
  const about = textAt(spec, "description");
  const scope = scopeOf(spec);
  return html`<details id="${textAt(spec, "operationId")}">
    <summary>
      <span class="verb">${method}</span> <code>${path}</code> <span class="soft">${textAt(spec, "summary")}</span>
    </summary>
    ${about ? html`<p>${inlineMarkdown(about)}</p>` : ""}${scope}
    ${renderParameters(spec)}${renderRequestBody(spec)}${renderSample(spec)}
    ${renderResponses(recordAt(spec, "responses"))}
  </details>`;
}

/** A webhook has no `security` of its own. */
function scopeOf(spec: JsonObject): Html | string {
  if (!Array.isArray(spec["security"])) return "";
  const [needed] = spec["security"].filter(isRecord).map(({ bearer }) => bearer);
  if (!Array.isArray(needed)) return html`<p class="soft">Needs no token.</p>`;
  return html`<p class="soft">Needs a token with the scope <code>${needed.join(" ")}</code>.</p>`;
}

function renderParameters(spec: JsonObject): Html | string {
  const list = Array.isArray(spec["parameters"]) ? spec["parameters"].filter(isRecord) : [];
  if (list.length === 0) return "";
  const rows = list.map((parameter) => {
    const schema = recordAt(parameter, "schema");
    return html`<tr>
      <td><code>${textAt(parameter, "name")}</code></td>
      <td>${textAt(parameter, "in")}${parameter["required"] === true ? ", required" : ""}</td>
      <td>${renderType(schema)}</td>
      <td>${inlineMarkdown(textAt(parameter, "description"))}</td>
    </tr>`;
  });
  return html`<table>
    <tr>
      <th>Parameter</th>
      <th>In</th>
      <th>Type</th>
      <th>Meaning</th>
    </tr>
    ${rows}
  </table>`;
}

function renderRequestBody(spec: JsonObject): Html | string {
  const content = Object.entries(recordAt(recordAt(spec, "requestBody"), "content"));
  const [first] = content;
  if (!first) return "";
  const types = content.map(([type]) => type).join(" or ");
  return html`<h3>Body</h3>
    <p class="soft">${types}</p>
    ${renderSchema(recordAt(isRecord(first[1]) ? first[1] : {}, "schema"))}`;
}

/** The example as a command. A line above it says what it needs once, for the whole page. */
function renderSample(spec: JsonObject): Html | string {
  const [sample] = Array.isArray(spec["x-codeSamples"]) ? spec["x-codeSamples"].filter(isRecord) : [];
  if (!sample) return "";
  return html`<h3>Example</h3>
    <pre tabindex="0"><code>${textAt(sample, "source")}</code></pre>`;
}

/** What to ask next, over all answers; each operation once. */
function renderLinks(responses: JsonObject): Html | string {
  const links = Object.values(responses).flatMap((answer) => Object.values(recordAt(toRecord(answer), "links")));
  const next = new Map(links.map((link) => [textAt(toRecord(link), "operationId"), toRecord(link)]));
  if (next.size === 0) return "";
  return html`<h3>Next</h3>
    <ul>
      ${[...next].map(([id, link]) => html`<li><a href="#${id}">${textAt(link, "description")}</a></li>`)}
    </ul>`;
}

function toRecord(value: unknown): JsonObject {
  return isRecord(value) ? value : {};
}

function renderResponses(responses: JsonObject): Html {
  const rows = Object.entries(responses).map(([status, answer]) => {
    const spec = isRecord(answer) ? answer : {};
    const [type, body] = Object.entries(recordAt(spec, "content"))[0] ?? ["", {}];
    const schema = recordAt(isRecord(body) ? body : {}, "schema");
    return html`<tr>
      <td><code>${status}</code></td>
      <td>${inlineMarkdown(textAt(spec, "description"))}</td>
      <td>${type}</td>
      <td>${type.includes("json") ? renderType(schema) : ""}</td>
    </tr>`;
  });
  return html`<h3>Answers</h3>
    <table>
      <tr>
        <th>Status</th>
        <th>When</th>
        <th>Content</th>
        <th>Schema</th>
      </tr>
      ${rows}
    </table>
    ${renderLinks(responses)}`;
}

/** Renders a named schema as a link, and any other in short: its type, its choices, its bounds and default. */
function renderType(schema: JsonObject): Html {
  const named = textAt(schema, "$ref").split("/").at(-1);
  if (named) return html`<a href="#schema-${named}">${named}</a>`;
  if (Array.isArray(schema["enum"]))
    return html`${schema["enum"].map((word) => JSON.stringify(word)).join(" | ")}${renderDefault(schema)}`;
  const options = schema["anyOf"] ?? schema["oneOf"];
  if (Array.isArray(options))
    return html`${options.filter(isRecord).map((option, i) => html`${i > 0 ? " | " : ""}${renderType(option)}`)}${renderDefault(schema)}`;
  if ("const" in schema) return html`${JSON.stringify(schema["const"])}`;
  if (isRecord(schema["items"])) return html`list of ${renderType(schema["items"])}${renderDefault(schema)}`;
  if (isRecord(schema["properties"]))
    return html`{ ${Object.keys(schema["properties"]).join(", ")} }${renderDefault(schema)}`;
  return html`${textAt(schema, "type") || "any"}${renderDefault(schema)}`;
}

function renderDefault(schema: JsonObject): string {
  return "default" in schema ? `, default ${JSON.stringify(schema["default"])}` : "";
}

function renderSchema(schema: JsonObject): Html {
  return "$ref" in schema ? html`<p>${renderType(schema)}</p>` : renderFields(schema);
}

function renderNamedSchema(name: string, schema: JsonObject): Html {
  return html`<details id="schema-${name}">
    <summary><code>${name}</code></summary>
    ${renderFields(schema)}
  </details>`;
}

/** Renders every member with its dotted path, to any depth. */
function renderFields(schema: JsonObject): Html {
  const rows = membersOf(schema, "").map(
    ({ path, required, schema: member }) =>
      html`<tr>
        <td><code>${path}</code></td>
        <td>${renderType(member)}</td>
        <td>${required ? "required" : ""}</td>
        <td>${inlineMarkdown(textAt(member, "description"))}</td>
      </tr>`,
  );
  if (rows.length === 0) return html`<p>${renderType(schema)} ${inlineMarkdown(textAt(schema, "description"))}</p>`;
  return html`<table>
    <tr>
      <th>Member</th>
      <th>Type</th>
      <th>Needed</th>
      <th>Meaning</th>
    </tr>
    ${rows}
  </table>`;
}

type Member = { path: string; required: boolean; schema: JsonObject };

function membersOf(schema: JsonObject, above: string): Member[] {
  const requiredNames = Array.isArray(schema["required"]) ? schema["required"] : [];
  const own = Object.entries(recordAt(schema, "properties")).flatMap(([name, member]) => {
    const inner = isRecord(member) ? member : {};
    const path = above + name;
    const items = recordAt(inner, "items");
    return [
      { path, required: requiredNames.includes(name), schema: inner },
      ...membersOf(inner, `${path}.`),
      ...membersOf(items, `${path}[].`),
    ];
  });
  const options = Array.isArray(schema["anyOf"]) ? schema["anyOf"].filter(isRecord) : [];
  const ofOptions = options.flatMap((option) => membersOf(option, above).map((one) => ({ ...one, required: false })));
  return [...new Map([...ofOptions, ...own].map((one) => [one.path, one])).values()];
}

function renderProblems(): Html {
  const rows = Object.entries(PROBLEMS).map(
    ([code, { status, title, fix }]) =>
      html`<tr id="problem-${code}">
        <td><code>${code}</code></td>
        <td>${status}</td>
        <td>${title}</td>
        <td>${inlineMarkdown(fix)}</td>
      </tr>`,
  );
  return html`<p>The <code>code</code> of an error answer, of a mailbox's state and of a delivery's attempt.</p>
    <table>
      <tr>
        <th>Code</th>
        <th>Status</th>
        <th>What</th>
        <th>What to do</th>
      </tr>
      ${rows}
    </table>`;
}

function recordAt(value: JsonObject, name: string): JsonObject {
  const member = value[name];
  return isRecord(member) ? member : {};
}

function textAt(value: JsonObject, name: string): string {
  const member = value[name];
  return typeof member === "string" ? member : "";
}

function tagOf(spec: JsonObject): string {
  return Array.isArray(spec["tags"]) ? String(spec["tags"][0]) : "";
}
