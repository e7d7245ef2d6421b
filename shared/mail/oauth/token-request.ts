/** One HTTP POST of a form to an address that the egress guard checked: all that an OAuth2 token endpoint needs. */
import { request as requestHttp, type IncomingMessage } from "node:http";
import { request as requestHttps } from "node:https";
import type { LookupFunction } from "node:net";
import { Problem } from "../../contract/problem.ts";
import type { Egress } from "../../egress.ts";

export type Answer = { status: number; body: string; retryAfter: string | undefined };

const MOST_BYTES = 1024 * 1024;

/**
 * Posts and reads the whole answer, whatever its status; redirects are not followed. Throws `egress` and `dns` as the guard
 * does, `timeout` or `connect` (retry later) when there is no answer.
 */
export async function postForm(
  deps: { egress: Egress; timeoutMs: number },
  address: string,
  form: URLSearchParams,
): Promise<Answer> {
  const url = new URL(address);
  const deadline = AbortSignal.timeout(deps.timeoutMs);
  try {
    const checked = await deps.egress.addresses(url.hostname, deadline);
    const lookup: LookupFunction = (_, options, done) => {
      const [first] = checked;
      if (options.all) done(null, checked);
      else done(null, first?.address ?? "", first?.family);
    };
    return await posted(url, { body: form.toString(), lookup }, deadline);
  } catch (error) {
    if (error instanceof Problem) throw error;
    if (deadline.aborted) throw new Problem("timeout", `${url.host} did not answer in time`, { cause: error });
    const text = error instanceof Error ? error.message : String(error);
    throw new Problem("connect", `${url.host} cannot be asked for a token: ${text}`, { cause: error });
  }
}

async function posted(url: URL, by: { body: string; lookup: LookupFunction }, signal: AbortSignal): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const send = url.protocol === "https:" ? requestHttps : requestHttp;
  const headers = {
    "content-type": "application/x-www-form-urlencoded",
    "content-length": Buffer.byteLength(by.body),
    accept: "application/json",
    connection: "close",
  };
  const request = send(url, { method: "POST", headers, lookup: by.lookup, agent: false, signal }, resolve);
  request.on("error", reject);
  request.end(by.body);
  const response = await promise;
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response) {
    parts.push(Buffer.from(chunk));
    bytes += parts.at(-1)?.length ?? 0;
    if (bytes > MOST_BYTES) {
      request.destroy();
      throw new Problem("token", `${url.host} answered with more than a token`);
    }
  }
  const body = Buffer.concat(parts).toString("utf8");
  return { status: response.statusCode ?? 0, body, retryAfter: response.headers["retry-after"] };
}
