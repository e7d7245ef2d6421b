/** Reading a request's body: bounded in size and in time, JSON or a problem that says what is wrong with it. */
import { Problem } from "../../shared/contract/problem.ts";
import { within } from "../../shared/time.ts";

/** No mailbox needs more; certificates are the largest part of one. */
const MOST_BYTES = 1024 * 1024;
const MOST_MS = 30_000;

/** The body as JSON. Throws `media_type`, `too_large`, `malformed`, or `timeout` for a body that takes over 30 seconds. */
export async function readJson(request: Request, types: readonly string[]): Promise<unknown> {
  const type = (request.headers.get("content-type") ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "";
  if (!types.includes(type)) {
    const sent = type === "" ? "no content type" : type;
    throw new Problem("media_type", `The request has ${sent} instead of ${types.join(" or ")}.`, { retry: "never" });
  }
  const text = await within(MOST_MS, "Sending the body", readText(request));
  if (text.trim() === "") throw new Problem("malformed", "The body is empty.", { retry: "never" });
  try {
    return JSON.parse(text);
  } catch (cause) {
    // The parser's message quotes the body, which may hold a password.
    throw new Problem("malformed", "The body is not valid JSON.", { retry: "never", cause });
  }
}

async function readText(request: Request): Promise<string> {
  if (Number(request.headers.get("content-length") ?? 0) > MOST_BYTES) throw tooLarge();
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of request.body ?? []) {
    size += chunk.byteLength;
    if (size > MOST_BYTES) throw tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

function tooLarge(): Problem {
  return new Problem("too_large", `The body has more than ${MOST_BYTES} bytes.`, { retry: "never" });
}
