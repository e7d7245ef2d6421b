/** One HTTP POST of a form to an address that the egress guard checked. An OAuth2 token endpoint needs no more. */
import { request as requestHttp, type IncomingMessage } from "node:http";
import { request as requestHttps } from "node:https";
import type { LookupFunction } from "node:net";
import { Problem } from "../../contract/problem.ts";
import { type Egress, portOfUrl } from "../../egress.ts";
import { limitInterimAnswers } from "../interim-answers.ts";

export type PostTokenRequestDeps = { egress: Egress; timeoutMs: number };
export type TokenResponse = { status: number; body: string; retryAfter: string | undefined };

const MAX_RESPONSE_BYTES = 256 * 1024;

/**
 * Posts and reads the whole answer, whatever its status. Redirects are not followed. Throws `egress` and `dns` as the
 * guard does, `timeout` or `connect` (retry later) when there is no answer.
 */
export async function postTokenRequest(
  deps: PostTokenRequestDeps,
  address: string,
  form: URLSearchParams,
): Promise<TokenResponse> {
  const url = new URL(address);
  const deadline = AbortSignal.timeout(deps.timeoutMs);
  try {
    const addresses = await deps.egress.resolve({ host: url.hostname, port: portOfUrl(url) }, deadline);
    const lookup: LookupFunction = (_, options, done) => {
      const [first] = addresses;
      if (options.all) done(null, addresses);
      else done(null, first?.address ?? "", first?.family);
    };
    return await postOverHttp(url, { body: form.toString(), lookup }, deadline);
  } catch (error) {
    if (error instanceof Problem) throw error;
    if (deadline.aborted) throw new Problem("timeout", `${url.host} did not answer in time`, { cause: error });
    const text = error instanceof Error ? error.message : String(error);
    throw new Problem("connect", `${url.host} did not answer the token request: ${text}`, { cause: error });
  }
}

async function postOverHttp(
  url: URL,
  options: { body: string; lookup: LookupFunction },
  signal: AbortSignal,
): Promise<TokenResponse> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const send = url.protocol === "https:" ? requestHttps : requestHttp;
  const headers = {
    "content-type": "application/x-www-form-urlencoded",
    "content-length": Buffer.byteLength(options.body),
    accept: "application/json",
    connection: "close",
  };
  const request = send(url, { method: "POST", headers, lookup: options.lookup, agent: false, signal }, resolve);
  request.on("error", reject);
  limitInterimAnswers(request);
  request.end(options.body);
  const response = await promise;
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response) {
    chunks.push(Buffer.from(chunk));
    bytes += chunks.at(-1)?.length ?? 0;
    if (bytes > MAX_RESPONSE_BYTES) {
      request.destroy();
      throw new Problem("token", `${url.host} answered with more than a token`);
    }
  }
  const body = Buffer.concat(chunks).toString("utf8");
  return { status: response.statusCode ?? 0, body, retryAfter: response.headers["retry-after"] };
}
