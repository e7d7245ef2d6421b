/**
 * The body of a stranger's message, as a document of its own in a frame without any rights: it runs nothing, loads nothing, leads
 * nowhere, and has no origin.
 */
import { html, raw } from "hono/html";
import type { ParsedMessage } from "../../../../shared/contract/received.ts";

/** Headers of the document. `frame-ancestors` is the page of the delivery. */
const HEADERS = {
  "content-type": "text/html; charset=utf-8",
  "content-security-policy":
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; sandbox",
  "referrer-policy": "no-referrer",
  "cache-control": "no-store",
};

/** More characters are not shown. */
const MAX_CHARACTERS = 2_000_000;
/** Pictures inside the message, together: more are not shown. */
const MAX_PICTURES_BYTES = 4_000_000;
const PICTURE = /^image\/(png|jpeg|gif|webp)$/;
/**
 * What they do is beyond the policy: a browser connects ahead of time to where a link or a frame leads, and they set another base,
 * charset or policy.
 */
const ACTIVE_TAGS = /<(?=\/?(?:link|meta|base|a|area|form|i?frame|frameset|object|embed)\b)/gi;

export async function messageBody({ html: body, text, attachments }: ParsedMessage): Promise<Response> {
  const content =
    body === null ? html`<pre>${cut(text ?? "It has no text.")}</pre>` : raw(withPictures(cut(body), attachments));
  const whole = await html`<!doctype html><meta charset="utf-8" /><title>Message</title>${content}`;
  return new Response(String(whole), { headers: HEADERS });
}

function cut(text: string): string {
  if (text.length <= MAX_CHARACTERS) return text;
  return `${text.slice(0, MAX_CHARACTERS)}\n[The rest is not shown. Download the message.]`;
}

/** The HTML without active tags, with the pictures that lie in the message itself. */
function withPictures(body: string, attachments: ParsedMessage["attachments"]): string {
  let shown = body.replace(ACTIVE_TAGS, "<x-");
  let bytes = 0;
  for (const { contentId, contentType, content } of attachments) {
    if (contentId === null || content === null || !PICTURE.test(contentType)) continue;
    bytes += content.length;
    if (bytes > MAX_PICTURES_BYTES) break;
    const picture = Buffer.from(content).toString("base64");
    shown = shown.replaceAll(`cid:${contentId}`, () => `data:${contentType};base64,${picture}`);
  }
  return shown;
}
