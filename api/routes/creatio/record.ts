/** The shape of a CRM's request, without its values: enough to correct a table of guesses, and no secrets. */
import { isRecord } from "../../http/field-errors.ts";
import { parseGuid } from "./members.ts";

/** Members whose numbers are guesses and no secrets. A recording exists to show these values. */
const ENUMS = new Set(["secureoption", "importance"]);
const MAX_DEPTH = 8;
const NAME = /^[A-Za-z_$][A-Za-z0-9_.$-]{0,63}$/;

/**
 * A JSON value as the tree of its member names, with types in place of values. A list becomes its length and the shape
 * of its items.
 */
export function shapeOf(value: unknown, name = "", depth = 0): unknown {
  if (depth > MAX_DEPTH) return "...";
  if (Array.isArray(value)) {
    const shapes = new Set(value.map((item) => JSON.stringify(shapeOf(item, name, depth + 1))));
    return { [`list of ${value.length}`]: [...shapes].slice(0, 5).map((shape): unknown => JSON.parse(shape)) };
  }
  if (isRecord(value)) {
    const members = Object.entries(value).map(([key, inner]) => [
      NAME.test(key) && parseGuid(key) === undefined ? key : "(a key)",
      shapeOf(inner, key, depth + 1),
    ]);
    return Object.fromEntries(members);
  }
  if (typeof value === "number") return ENUMS.has(name.toLowerCase()) ? `number ${value}` : "number";
  if (typeof value !== "string") return value === null ? "null" : typeof value;
  if (value === "") return "empty string";
  return parseGuid(value) === undefined ? "string" : "guid";
}

/** A text whose letters and digits are all the same, with long runs shortened: its grammar without its words. */
export function maskText(value: string): string {
  return value
    .replace(/\p{L}+/gu, "a")
    .replace(/\d+/g, "9")
    .replace(/[\p{Cc}]+/gu, " ")
    .slice(0, 200);
}

/** A path in which ids, addresses, and the segment of CRM_ACCESS are masked. */
export function maskPath(path: string, segment: string | undefined): string {
  const parts = path.split("/").map((part) => {
    if (part === "") return part;
    if (part === segment) return "{segment}";
    return NAME.test(part) && part.length <= 40 && parseGuid(part) === undefined ? part : "{...}";
  });
  return parts.join("/");
}
