/**
 * The meaning of every field in the reference. A schema that describes a field itself is right. All others are described here, so
 * that a field which many requests and answers share is explained once.
 *
 * The key of a field is the end of its path, such as `receive.host`. The longest key that fits counts. A path begins with the
 * name of the schema (MailboxInput and MailboxCreated count as Mailbox), or with the first word of the route's path after
 * /api/v1. Lists add nothing to it.
 */
import { isRecord } from "../../http/field-errors.ts";
import { MAILBOX_MEANINGS } from "./mailbox-meanings.ts";
import { MESSAGE_MEANINGS } from "./message-meanings.ts";
import { OPERATION_MEANINGS } from "./operation-meanings.ts";

type JsonObject = Record<string, unknown>;

/** All keys with their meanings. */
export const MEANINGS: ReadonlyMap<string, string> = new Map(
  Object.entries({ ...MAILBOX_MEANINGS, ...MESSAGE_MEANINGS, ...OPERATION_MEANINGS }),
);

/** Beginnings of paths that mean the same. */
const SAME_ROOTS: Record<string, string> = {
  MailboxInput: "Mailbox",
  MailboxCreated: "Mailbox",
  deliveries: "Delivery",
  "mailboxes:import": "import",
};

/** The beginning of the path of a field that a request to a route or its answer has. */
export function rootOfRoute(path: string): string {
  return path.replace("/api/v1/", "/").split("/")[1] ?? "";
}

/** The key of the meaning of a field, by the parts of its path. Undefined if there is none. */
export function keyOfField(path: readonly string[]): string | undefined {
  const parts = toKnownParts(path);
  for (let from = 0; from < parts.length; from++) {
    const key = parts.slice(from).join(".");
    if (MEANINGS.has(key)) return key;
  }
  return undefined;
}

/** The meaning of a field, by the parts of its path. */
export function meaningOf(path: readonly string[]): string | undefined {
  return MEANINGS.get(keyOfField(path) ?? "");
}

/** A sending in a webhook has the fields of a sending, and a list has those of its items. */
function toKnownParts(path: readonly string[]): string[] {
  const [root = "", second, ...rest] = path;
  const isSent = root === "MessageSent" && second === "data" && rest.length > 0;
  const [first = "", ...others] = isSent ? ["Sending", ...rest] : path;
  const last = others.length - 1;
  const inner = others.filter((part, n) => part !== "items" || n === last);
  return [SAME_ROOTS[first] ?? first, ...inner.map((part) => (part === "calendars" ? "calendar" : part))];
}

/** The schema with a description for each of its fields. `path` is where the schema stands. */
export function withMeanings(schema: JsonObject, path: readonly string[]): JsonObject {
  const described = { ...schema };
  if (isRecord(schema["properties"]))
    described["properties"] = Object.fromEntries(
      Object.entries(schema["properties"]).map(([name, field]) => [name, describe(field, [...path, name])]),
    );
  for (const name of ["anyOf", "oneOf", "allOf"] as const) {
    const options = schema[name];
    if (Array.isArray(options))
      described[name] = options.map((option: unknown) => (isRecord(option) ? withMeanings(option, path) : option));
  }
  for (const name of ["items", "additionalProperties"] as const) {
    const inner = schema[name];
    if (isRecord(inner)) described[name] = withMeanings(inner, path);
  }
  return described;
}

function describe(field: unknown, path: readonly string[]): unknown {
  if (!isRecord(field)) return field;
  const inner = withMeanings(field, path);
  const meaning = inner["description"] ?? meaningOf(path);
  return meaning === undefined ? inner : { description: meaning, ...inner };
}
