/** What a request must have before anything reads it: a path, one name of a host, and one length of its body. */

/** A name, an IPv4 address or an IPv6 address in brackets, with or without a port (RFC 9110 section 7.2). */
const HOST = /^([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d{1,5})?$/i;

/** The header with a length, or no such header. Bun joins several by commas. */
const LENGTH = /^\d{0,15}$/;

/** The answer to a request whose target, Host or length means nothing, undefined to any other. It has no body and no log line. */
export function malformedHeadResponse(request: Request): Response | undefined {
  const host = request.headers.get("host") ?? "";
  const hasHost = HOST.test(host) && URL.canParse(`http://${host}/`);
  const hasLength = LENGTH.test(request.headers.get("content-length") ?? "");
  if (hasHost && hasLength && isGoodTarget(request.url)) return undefined;
  const why = "The request needs a path that begins with one slash, one Host header, and at most one Content-Length.\n";
  return new Response(why, {
    status: 400,
    headers: { "content-type": "text/plain; charset=utf-8", connection: "close" },
  });
}

/** `//name` would be the address of another server (RFC 3986 section 4.2). */
function isGoodTarget(url: string): boolean {
  return URL.canParse(url) && !new URL(url).pathname.startsWith("//");
}
