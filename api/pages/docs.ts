/** The reference page: the OpenAPI document as people read it, rendered here, with nothing to load from elsewhere. */
import { PROBLEMS } from "../../shared/contract/problem.ts";
import { isRecord } from "../http/field-errors.ts";
import { type Html, html, prose } from "./html.ts";
import type { Json } from "./openapi.ts";

/** The document as the body of a page. `base` is the prefix of its links. */
export function docsBody(document: Json, base: string): Html {
  const info = recordAt(document, "info");
  const operations = operationsOf(recordAt(document, "paths"));
  const hooks = operationsOf(recordAt(document, "webhooks"));
  const tags = [...new Set(operations.map(({ spec }) => tagOf(spec)))];
  const schemas = Object.entries(recordAt(recordAt(document, "components"), "schemas"));
  return html`<h1>${text(info, "title")}</h1>
    <p class="soft">
      Version ${text(info, "version")} &middot; <a href="${base}/">start</a> &middot;
      <a href="${base}/openapi.json">openapi.json</a>
    </p>
    ${text(info, "description")
      .split("\n\n")
      .map((paragraph) => html`<p>${prose(paragraph)}</p>`)}
    <nav>
      ${[...tags, "Webhooks", "Schemas", "Problems"].map((tag) => html`<a href="#${tag.toLowerCase()}">${tag}</a>`)}
    </nav>
    ${tags.map(
      (tag) =>
        html`<h2 id="${tag.toLowerCase()}">${tag}</h2>
          ${operations.filter(({ spec }) => tagOf(spec) === tag).map(operation)}`,
    )}
    <h2 id="webhooks">Webhooks</h2>
    ${hooks.map(operation)}
    <h2 id="schemas">Schemas</h2>
    ${schemas.map(([name, schema]) => namedSchema(name, isRecord(schema) ? schema : {}))}
    <h2 id="problems">Problems</h2>
    ${problems()}`;
}

type Operation = { method: string; path: string; spec: Json };

function operationsOf(paths: Json): Operation[] {
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(isRecord(methods) ? methods : {}).map(([method, spec]) => ({
      method,
      path,
      spec: isRecord(spec) ? spec : {},
    })),
  );
}

function operation({ method, path, spec }: Operation): Html {
  const about = text(spec, "description");
  const open = Array.isArray(spec["security"]) && spec["security"].length === 0;
  return html`<details id="${text(spec, "operationId")}">
    <summary>
      <span class="verb">${method}</span> <code>${path}</code> <span class="soft">${text(spec, "summary")}</span>
    </summary>
    ${about ? html`<p>${prose(about)}</p>` : ""}${open ? html`<p class="soft">Needs no token.</p>` : ""}
    ${parameters(spec)}${requestBody(spec)}${answers(recordAt(spec, "responses"))}
  </details>`;
}

function parameters(spec: Json): Html | string {
  const list = Array.isArray(spec["parameters"]) ? spec["parameters"].filter(isRecord) : [];
  if (list.length === 0) return "";
  const rows = list.map((parameter) => {
    const schema = recordAt(parameter, "schema");
    return html`<tr>
      <td><code>${text(parameter, "name")}</code></td>
      <td>${text(parameter, "in")}${parameter["required"] === true ? ", required" : ""}</td>
      <td>${typeOf(schema)}</td>
      <td>${prose(text(parameter, "description"))}</td>
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

function requestBody(spec: Json): Html | string {
  const content = Object.entries(recordAt(recordAt(spec, "requestBody"), "content"));
  const [first] = content;
  if (!first) return "";
  const types = content.map(([type]) => type).join(" or ");
  return html`<h3>Body</h3>
    <p class="soft">${types}</p>
    ${schemaBlock(recordAt(isRecord(first[1]) ? first[1] : {}, "schema"))}`;
}

function answers(responses: Json): Html {
  const rows = Object.entries(responses).map(([status, answer]) => {
    const spec = isRecord(answer) ? answer : {};
    const [type, body] = Object.entries(recordAt(spec, "content"))[0] ?? ["", {}];
    const schema = recordAt(isRecord(body) ? body : {}, "schema");
    return html`<tr>
      <td><code>${status}</code></td>
      <td>${prose(text(spec, "description"))}</td>
      <td>${type}</td>
      <td>${type.includes("json") ? typeOf(schema) : ""}</td>
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
    </table>`;
}

/** A named schema as a link, anything else in short: its type, its choices, its bounds and default. */
function typeOf(schema: Json): Html {
  const named = text(schema, "$ref").split("/").at(-1);
  if (named) return html`<a href="#schema-${named}">${named}</a>`;
  if (Array.isArray(schema["enum"]))
    return html`${schema["enum"].map((word) => JSON.stringify(word)).join(" | ")}${fallback(schema)}`;
  const options = schema["anyOf"] ?? schema["oneOf"];
  if (Array.isArray(options))
    return html`${options.filter(isRecord).map((option, i) => html`${i > 0 ? " | " : ""}${typeOf(option)}`)}${fallback(schema)}`;
  if ("const" in schema) return html`${JSON.stringify(schema["const"])}`;
  if (isRecord(schema["items"])) return html`list of ${typeOf(schema["items"])}${fallback(schema)}`;
  if (isRecord(schema["properties"]))
    return html`{ ${Object.keys(schema["properties"]).join(", ")} }${fallback(schema)}`;
  return html`${text(schema, "type") || "any"}${fallback(schema)}`;
}

function fallback(schema: Json): string {
  return "default" in schema ? `, default ${JSON.stringify(schema["default"])}` : "";
}

function schemaBlock(schema: Json): Html {
  return "$ref" in schema ? html`<p>${typeOf(schema)}</p>` : fields(schema);
}

function namedSchema(name: string, schema: Json): Html {
  return html`<details id="schema-${name}">
    <summary><code>${name}</code></summary>
    ${fields(schema)}
  </details>`;
}

/** Every member with its dotted path, as deep as the schema goes. */
function fields(schema: Json): Html {
  const rows = membersOf(schema, "").map(
    ({ path, required, schema: member }) =>
      html`<tr>
        <td><code>${path}</code></td>
        <td>${typeOf(member)}</td>
        <td>${required ? "required" : ""}</td>
      </tr>`,
  );
  if (rows.length === 0) return html`<p>${typeOf(schema)} ${prose(text(schema, "description"))}</p>`;
  return html`<table>
    <tr>
      <th>Member</th>
      <th>Type</th>
      <th></th>
    </tr>
    ${rows}
  </table>`;
}

type Member = { path: string; required: boolean; schema: Json };

function membersOf(schema: Json, above: string): Member[] {
  const needed = Array.isArray(schema["required"]) ? schema["required"] : [];
  const own = Object.entries(recordAt(schema, "properties")).flatMap(([name, member]) => {
    const inner = isRecord(member) ? member : {};
    const path = above + name;
    const items = recordAt(inner, "items");
    return [
      { path, required: needed.includes(name), schema: inner },
      ...membersOf(inner, `${path}.`),
      ...membersOf(items, `${path}[].`),
    ];
  });
  const options = Array.isArray(schema["anyOf"]) ? schema["anyOf"].filter(isRecord) : [];
  const ofOptions = options.flatMap((option) => membersOf(option, above).map((one) => ({ ...one, required: false })));
  return [...new Map([...ofOptions, ...own].map((one) => [one.path, one])).values()];
}

function problems(): Html {
  const rows = Object.entries(PROBLEMS).map(
    ([code, { status, title, fix }]) =>
      html`<tr id="problem-${code}">
        <td><code>${code}</code></td>
        <td>${status}</td>
        <td>${title}</td>
        <td>${prose(fix)}</td>
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

function recordAt(value: Json, name: string): Json {
  const member = value[name];
  return isRecord(member) ? member : {};
}

function text(value: Json, name: string): string {
  const member = value[name];
  return typeof member === "string" ? member : "";
}

function tagOf(spec: Json): string {
  return Array.isArray(spec["tags"]) ? String(spec["tags"][0]) : "";
}
