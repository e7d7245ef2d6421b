/** Reading a request's body: bounded in size and in time, JSON or a problem that says what is wrong with it. */
import { Problem } from "../../shared/contract/problem.ts";
import { within } from "../../shared/time.ts";

/** No mailbox needs more; certificates are the largest part of one. */
const MOST_BYTES = 1024 * 1024;
const MOST_MS = 30_000;

/** The body as JSON. Throws `media_type`, `too_large` (over a megabyte if not told otherwise), `malformed`, or `timeout` for a body that takes over 30 seconds. */
export async function readJson(
  request: Request,
  types: readonly string[],
  mostBytes: number = MOST_BYTES,
): Promise<unknown> {
  const type = (request.headers.get("content-type") ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "";
  if (!types.includes(type)) {
    const sent = type === "" ? "no content type" : type;
    throw new Problem("media_type", `The request has ${sent} instead of ${types.join(" or ")}.`, { retry: "never" });
  }
  const text = await readBody(request, mostBytes);
  if (text.trim() === "") throw new Problem("malformed", "The body is empty.", { retry: "never" });
  try {
    return JSON.parse(text);
  } catch (cause) {
    // The parser's message quotes the body, which may hold a password.
    throw new Problem("malformed", "The body is not valid JSON.", { retry: "never", cause });
  }
}

/** The body as text, whatever its type. Throws `too_large` above `most` bytes, and `timeout` when it takes over 30 seconds or below 100 KB a second. */
export function readBody(request: Request, most: number): Promise<string> {
  // Larger ones have a second for every 100 KB.
  return within(Math.max(MOST_MS, most / 100), "Sending the body", readText(request, most));
}

async function readText(request: Request, most: number): Promise<string> {
  const told = Number(request.headers.get("content-length") ?? 0);
  if (told > most) throw tooLarge(most);
  // No more comes than was told, so nobody has to count.
  if (told > 0) return request.text();
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of request.body ?? []) {
    size += chunk.byteLength;
    if (size > most) throw tooLarge(most);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

function tooLarge(most: number): Problem {
  return new Problem("too_large", `The body has more than ${most} bytes.`, { retry: "never" });
}
