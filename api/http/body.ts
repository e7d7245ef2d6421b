/**
 * Reads a request's body within limits of size and time, and parses JSON or throws a problem that says what is wrong.
 */
import { Problem } from "../../shared/contract/problem.ts";
import { withTimeout } from "../../shared/time.ts";

/** No mailbox needs more. Certificates are the largest part of one. */
const MAX_BYTES = 1024 * 1024;
/** How slow a body may come: so many milliseconds, and more for each byte that it has or says it will have. */
const BODY_DEADLINE = { ms: 20_000, bytesPerMs: 100 };
/** A request has a few levels. A parser uses the stack for them. */
const MAX_DEPTH = 64;

/** The body as JSON. Throws `media_type`, `malformed`, and what `readBody` throws, above a megabyte by default. */
export async function readJson(
  request: Request,
  types: readonly string[],
  maxBytes: number = MAX_BYTES,
): Promise<unknown> {
  checkContentType(request, types);
  const text = await readBody(request, maxBytes);
  if (text.trim() === "") throw new Problem("malformed", "The body is empty.", { retry: "never" });
  return parseJson(text);
}

/** Throws `malformed` for a text that is no JSON, or has over 64 levels. */
export function parseJson(text: string): unknown {
  if (!hasDepthWithin(text, MAX_DEPTH)) {
    const cause = `The body has more than ${MAX_DEPTH} lists and objects inside each other.`;
    throw new Problem("malformed", cause, { retry: "never" });
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    // The parser's message quotes the body, which may hold a password.
    throw new Problem("malformed", "The body is not valid JSON.", { retry: "never", cause });
  }
}

/** Throws `media_type` for a body of another type. A browser sends these types for its own pages only. */
export function checkContentType(request: Request, types: readonly string[]): void {
  const type = (request.headers.get("content-type") ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "";
  if (types.includes(type)) return;
  const sent = type === "" ? "no content type" : type;
  throw new Problem("media_type", `The request has ${sent} instead of ${types.join(" or ")}.`, { retry: "never" });
}

/** Whether brackets outside of strings are never open more than so many times. */
function hasDepthWithin(text: string, max: number): boolean {
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const sign = text[at];
    if (sign === '"') at = stringEnd(text, at);
    else if (sign === "[" || sign === "{") depth++;
    else if (sign === "]" || sign === "}") depth--;
    if (depth > max) return false;
  }
  return true;
}

/** Where the string that begins there ends: at the next quote that no backslash escapes. */
function stringEnd(text: string, from: number): number {
  let end = from;
  let backslashes = 0;
  do {
    end = text.indexOf('"', end + 1);
    if (end < 0) return text.length;
    for (backslashes = 0; text[end - 1 - backslashes] === "\\"; backslashes++);
  } while (backslashes % 2 === 1);
  return end;
}

/**
 * The body as text, whatever its type. Throws `too_large` above `maxBytes`, `timeout` when it takes over 20 seconds and
 * one more for every 100 KB, and `malformed` when the sender goes away before its end.
 */
export async function readBody(request: Request, maxBytes: number, deadline = BODY_DEADLINE): Promise<string> {
  const announced = Number(request.headers.get("content-length") ?? 0);
  if (announced > maxBytes) throw tooLarge(maxBytes);
  if (!request.body) return "";
  const started = performance.now();
  const reader = request.body.getReader();
  const chunks: Uint8Array[] = [];
  let size = 0;
  const msLeft = () => deadline.ms + Math.max(size, announced) / deadline.bytesPerMs - (performance.now() - started);
  try {
    for (;;) {
      const { done, value } = await withTimeout(Math.max(0, msLeft()), "Sending the body", reader.read());
      if (done) return Buffer.concat(chunks).toString();
      size += value.byteLength;
      if (size > maxBytes) throw tooLarge(maxBytes);
      chunks.push(value);
    }
  } catch (error) {
    void reader.cancel().catch(() => undefined);
    if (!(error instanceof Problem))
      throw new Problem("malformed", "The body ended before it was whole.", { retry: "never", cause: error });
    throw error.code === "timeout" ? new Problem("timeout", `The body came too slowly: ${size} bytes in time.`) : error;
  }
}

function tooLarge(maxBytes: number): Problem {
  return new Problem("too_large", `The body has more than ${maxBytes} bytes.`, { retry: "never" });
}
