/** The shape of what a CRM sends, without its values: enough to correct a table of guesses, too little to give anything away. */
import { isRecord } from "../../http/field-errors.ts";
import { guidOf } from "./members.ts";

/** Members whose numbers are no secrets but guesses of ours: their values are what a recording is for. */
const ENUMS = new Set(["secureoption", "importance"]);
const DEEPEST = 8;
const NAME = /^[A-Za-z_$][A-Za-z0-9_.$-]{0,63}$/;

/** A JSON value as the tree of its member names with types in place of values; a list as its length and the shape of its items. */
export function shapeOf(value: unknown, name = "", depth = 0): unknown {
  if (depth > DEEPEST) return "...";
  if (Array.isArray(value)) {
    const shapes = new Set(value.map((item) => JSON.stringify(shapeOf(item, name, depth + 1))));
    return { [`list of ${value.length}`]: [...shapes].slice(0, 5).map((shape): unknown => JSON.parse(shape)) };
  }
  if (isRecord(value)) {
    const members = Object.entries(value).map(([key, inner]) => [
      NAME.test(key) && guidOf(key) === undefined ? key : "(a key)",
      shapeOf(inner, key, depth + 1),
    ]);
    return Object.fromEntries(members);
  }
  if (typeof value === "number") return ENUMS.has(name.toLowerCase()) ? `number ${value}` : "number";
  if (typeof value !== "string") return value === null ? "null" : typeof value;
  if (value === "") return "empty string";
  return guidOf(value) === undefined ? "string" : "guid";
}

/** A text with its letters and digits made equal, runs shortened: its grammar without its words. */
export function maskedText(value: string): string {
  return value
    .replace(/\p{L}+/gu, "a")
    .replace(/\d+/g, "9")
    .replace(/[\p{Cc}]+/gu, " ")
    .slice(0, 200);
}

/** A path with what might be a secret or a person's made unreadable: ids, addresses, and the segment of LISTENERS_ACCESS. */
export function maskedPath(path: string, segment: string | undefined): string {
  const parts = path.split("/").map((part) => {
    if (part === "") return part;
    if (part === segment) return "{segment}";
    return NAME.test(part) && part.length <= 40 && guidOf(part) === undefined ? part : "{...}";
  });
  return parts.join("/");
}
