/**
 * Turns schema issues into field errors that say what to do. No message repeats a value, because it might be a secret.
 */
import * as v from "valibot";
import type { FieldError } from "../../shared/contract/problem.ts";
import { nearestName } from "../../shared/nearest.ts";

type Schema = v.GenericSchema;
type Issue = v.BaseIssue<unknown>;

/** Members of answers that no request accepts. People send back what they have read. */
const READ_ONLY = new Set(["state", "revision", "createdAt", "updatedAt", "paused", "endpointGone"]);

/**
 * One error for each wrong field, with dotted paths. An unknown field gets the nearest known name, or one of `others`,
 * which belong to other variants of the same object.
 */
export function fieldErrors(schema: Schema, issues: readonly Issue[], others: string[] = []): FieldError[] {
  const found = new Map<string, FieldError>();
  for (const error of issues.flatMap((issue) => explainIssue(schema, issue, others))) {
    if (!found.has(error.path)) found.set(error.path, error);
  }
  return [...found.values()];
}

function explainIssue(root: Schema, issue: Issue, others: string[]): FieldError[] {
  const steps = issue.path ?? [];
  const path = steps.map((step) => String(step.key)).join(".");
  const parent = steps.at(-1);
  if (issue.expected === "never" && parent !== undefined) {
    const above = path.slice(0, Math.max(0, path.lastIndexOf(".")));
    const at = schemaAt(root, steps.slice(0, -1));
    const object = optionsOf(at).length > 0 ? intendedOption(at, parent.input) : at;
    const allowed = [...Object.keys(entriesOf(object)), ...(above === "" ? others : [])];
    return unknownFields(allowed, parent.input).map((error) => prefixPath(above, error));
  }
  if (issue.received === "undefined" && steps.length > 0) return [{ path, message: "is missing" }];
  if (issue.type === "union") {
    const union = schemaAt(root, steps);
    const meant = intendedOption(union, issue.input);
    const reparsed = meant && v.safeParse(meant, issue.input);
    if (meant && reparsed && !reparsed.success) {
      const names = optionsOf(union).flatMap((option) => Object.keys(entriesOf(option)));
      return fieldErrors(meant, reparsed.issues, names).map((error) => prefixPath(path, error));
    }
  }
  return [{ path, message: plainMessage(issue) }];
}

function prefixPath(above: string, error: FieldError): FieldError {
  return { path: [above, error.path].filter(Boolean).join("."), message: error.message };
}

/** Valibot reports only the first unknown field. This reports all of them. */
function unknownFields(allowed: string[], input: unknown): FieldError[] {
  const unknown = Object.keys(isRecord(input) ? input : {}).filter((key) => !allowed.includes(key));
  return unknown.map((key) => {
    if (READ_ONLY.has(key)) return { path: key, message: "is read-only: leave it out" };
    const meant = nearestName(key, allowed);
    return { path: key, message: meant ? `is not known; did you mean ${meant}?` : "is not known; leave it out" };
  });
}

/**
 * The option of a union that the client probably meant: the one that its discriminator names, the only list for a list,
 * or the object that shares the most fields.
 */
function intendedOption(union: Schema | undefined, input: unknown): Schema | undefined {
  const options = optionsOf(union);
  const member = union && "key" in union && typeof union.key === "string" ? union.key : undefined;
  if (member !== undefined)
    return isRecord(input) ? options.find((option) => literalAt(option, member) === input[member]) : undefined;
  if (Array.isArray(input)) return options.find((option) => option.type === "array");
  if (!isRecord(input)) return undefined;
  const given = Object.keys(input);
  const scored = options
    .map((option) => {
      const allowed = Object.keys(entriesOf(option));
      const misspelt = given.filter((key) => !allowed.includes(key) && nearestName(key, allowed) !== undefined);
      return { option, score: given.filter((key) => allowed.includes(key)).length + misspelt.length / 2 };
    })
    .toSorted((a, b) => b.score - a.score);
  const [best, second] = scored;
  return best && best.score > 0 && best.score > (second?.score ?? 0) ? best.option : undefined;
}

function literalAt(option: Schema, key: string): unknown {
  const schema = entriesOf(option)[key];
  return schema && "literal" in schema ? schema.literal : undefined;
}

function schemaAt(root: Schema, steps: readonly { key?: unknown; input?: unknown }[]): Schema | undefined {
  let schema: Schema | undefined = unwrap(root);
  for (const step of steps) {
    if (optionsOf(schema).length > 0) schema = intendedOption(schema, step.input);
    schema = unwrap(entriesOf(schema)[String(step.key)] ?? itemOf(schema));
  }
  return schema;
}

function unwrap(schema: Schema | undefined): Schema | undefined {
  return schema && "wrapped" in schema && isSchema(schema.wrapped) ? unwrap(schema.wrapped) : schema;
}

function entriesOf(schema: Schema | undefined): Record<string, Schema> {
  if (!schema || !("entries" in schema) || !isRecord(schema.entries)) return {};
  return Object.fromEntries(
    Object.entries(schema.entries).filter((entry): entry is [string, Schema] => isSchema(entry[1])),
  );
}

function optionsOf(schema: Schema | undefined): Schema[] {
  return schema && "options" in schema && Array.isArray(schema.options) ? schema.options.filter(isSchema) : [];
}

function itemOf(schema: Schema | undefined): Schema | undefined {
  return schema && "item" in schema && isSchema(schema.item) ? schema.item : undefined;
}

function isSchema(value: unknown): value is Schema {
  return isRecord(value) && value["kind"] === "schema";
}

/** True for a JSON object: neither null nor a list. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const MESSAGES: Record<string, (issue: Issue) => string> = {
  string: () => "must be a string",
  number: () => "must be a number",
  boolean: () => "must be true or false",
  array: () => "must be a list",
  object: () => "must be an object",
  record: () => "must be an object",
  strict_object: () => "must be an object",
  integer: () => "must be a whole number",
  min_value: (issue) => `must be at least ${requirementOf(issue)}`,
  max_value: (issue) => `must be at most ${requirementOf(issue)}`,
  min_length: (issue) => `must have at least ${requirementOf(issue)} entries or characters`,
  max_length: (issue) => `must have at most ${requirementOf(issue)} entries or characters`,
  picklist: oneOf,
  literal: oneOf,
  variant: oneOf,
  email: () => "must be an e-mail address",
};

/** The schema's own message if it has one, else a plain message in place of valibot's, which quotes the value. */
function plainMessage(issue: Issue): string {
  if (!issue.message.startsWith("Invalid ")) return issue.message;
  return MESSAGES[issue.type]?.(issue) ?? "is not valid";
}

function oneOf(issue: Issue): string {
  const words = (issue.expected ?? "").replace(/[()"]/g, "").split(" | ");
  return words.length > 1 ? `must be one of ${words.join(", ")}` : `must be ${words.join("")}`;
}

function requirementOf(issue: Issue): string {
  return "requirement" in issue ? String(issue.requirement) : "";
}
