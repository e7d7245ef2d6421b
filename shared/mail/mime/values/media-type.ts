/** Media types (RFC 2045 section 5) as they occur: in quotes, as one word, without a semicolon, or missing. */
import { parseParameters } from "./parameters.ts";

/**
 * A media type in lower case with its parameters (names in lower case, the first one of a name counts), without
 * comments. `declared` is false if the part has no readable type. `cut` is true if it has more parameters than the
 * limit.
 */
export type MediaType = { type: string; params: Map<string, string>; declared: boolean; cut: boolean };

const MEDIA_TYPE = /^([a-z0-9!#$&^_.+-]+) ?[/\\] ?([a-z0-9!#$&^_.+-]+)/;
const MAX_TYPE = 200;
/** Types that occur as one word. */
const ONE_WORD: ReadonlyMap<string, string> = new Map(
  [
    ["text/plain", "text plain txt"],
    ["text/html", "html"],
    ["multipart/mixed", "multipart mixed"],
    ["multipart/alternative", "alternative"],
    ["application/pdf", "pdf"],
    ["message/rfc822", "message"],
    ["application/octet-stream", "image audio video application binary attachment octet-stream"],
  ].flatMap(([type = "", words = ""]) => words.split(" ").map((word): [string, string] => [word, type])),
);

/** Parses a Content-Type. If it cannot be parsed, the result is the fallback. */
export function parseMediaType(text: string | undefined, fallback: string): MediaType {
  const { value, params, cut } = parseParameters(text ?? "");
  const said = value
    .slice(0, MAX_TYPE)
    .replace(/^[^a-z0-9]+/, "")
    .replace(/\s+/g, " ");
  const [, main, sub] = MEDIA_TYPE.exec(said) ?? [];
  const type = main !== undefined ? `${main}/${sub}` : ONE_WORD.get(/[a-z][a-z-]*/.exec(said)?.[0] ?? "");
  return { type: type ?? fallback, params, declared: type !== undefined, cut };
}
