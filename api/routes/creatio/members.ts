/**
 * Reads what a CRM sends: every member may be missing, null, in another case, or written as text. Nothing here throws.
 */
import { isRecord } from "../../http/field-errors.ts";

/** A member by its name, ignoring case. null counts as missing. */
export function getMember(value: unknown, name: string): unknown {
  if (!isRecord(value)) return undefined;
  const exact = value[name];
  if (exact !== undefined && exact !== null) return exact;
  const lowerName = name.toLowerCase();
  const key = Object.keys(value).find((candidate) => candidate.toLowerCase() === lowerName);
  return key === undefined ? undefined : (value[key] ?? undefined);
}

/** A text that is not empty, without white space around it. */
export function text(value: unknown, name: string): string | undefined {
  return rawText(value, name)?.trim() || undefined;
}

/** A text exactly as it came; undefined when it is missing. */
export function rawText(value: unknown, name: string): string | undefined {
  const found = getMember(value, name);
  return typeof found === "string" ? found : typeof found === "number" ? String(found) : undefined;
}

export function flag(value: unknown, name: string): boolean | undefined {
  const found = getMember(value, name);
  if (typeof found === "boolean") return found;
  if (typeof found === "string" && /^(true|false)$/i.test(found)) return found.toLowerCase() === "true";
  return undefined;
}

export function number(value: unknown, name: string): number | undefined {
  const found = getMember(value, name);
  const parsed = typeof found === "string" && found.trim() !== "" ? Number(found) : found;
  return typeof parsed === "number" && Number.isFinite(parsed) ? parsed : undefined;
}

/** The texts of a list; undefined when there is no list. */
export function textList(value: unknown, name: string): string[] | undefined {
  const found = getMember(value, name);
  return Array.isArray(found) ? found.filter((item): item is string => typeof item === "string") : undefined;
}

/** A GUID in any of .NET's usual forms, as lower case "D"; undefined when it is none. */
export function parseGuid(value: unknown): string | undefined {
  if (typeof value !== "string") return undefined;
  const digits = value.trim().replace(/^[{(](.*)[)}]$/, "$1");
  if (!/^([0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$/i.test(digits)) return undefined;
  return digits
    .replaceAll("-", "")
    .toLowerCase()
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** A text without line breaks and NUL, for a header. */
export function oneLine(value: string): string {
  return value.replace(/[\r\n\0]+/g, " ").trim();
}
