/** The service that a command talks to, over its API. */
import process from "node:process";
import { readConfig } from "../../shared/config.ts";
import { Problem } from "../../shared/contract/problem.ts";

/** `url` has no slash at its end. */
export type Service = { url: string; token: string | undefined };
export type Json = Record<string, unknown>;

/** Longer than the service itself waits for a mail server. */
const TIMEOUT_MS = 90_000;

/** The service that the options or the environment name; by default the one on this machine, by PORT and BASE_PATH. */
export function findService(options: { url?: string | undefined; token?: string | undefined }): Service {
  const { PORT, BASE_PATH, API_TOKENS, API_TOKENS_FILE, EMAIL_LISTENER_URL, EMAIL_LISTENER_TOKEN } = process.env;
  const config = readConfig({ PORT, BASE_PATH, API_TOKENS, API_TOKENS_FILE });
  const named = options.url ?? EMAIL_LISTENER_URL;
  return {
    url: named?.replace(/(?<!\/)\/+$/, "") ?? `http://127.0.0.1:${config.PORT}${config.BASE_PATH}`,
    token: options.token ?? EMAIL_LISTENER_TOKEN ?? config.API_TOKENS[0]?.reveal(),
  };
}

/**
 * Sends a request to `/api/v1` and returns the answer's JSON, {} without a body. Throws a Problem in the service's own
 * words if it refuses, and `connect` if it does not answer within 90 seconds, or `waitMs` longer.
 */
export async function callService(
  service: Service,
  method: string,
  path: string,
  { body, headers, waitMs = 0 }: { body?: unknown; headers?: Record<string, string>; waitMs?: number } = {},
): Promise<Json> {
  const response = await fetchFrom(service, path, {
    method,
    headers: { ...headers, ...(body !== undefined && { "content-type": "application/json" }) },
    ...(body !== undefined && { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(TIMEOUT_MS + waitMs),
  });
  const answer: unknown = response.status === 204 ? {} : await response.json().catch(() => undefined);
  if (typeof answer !== "object" || answer === null) throw notTheService(service, response.status);
  if (!response.ok) throw toProblem(response.status, Object.fromEntries(Object.entries(answer)));
  return Object.fromEntries(Object.entries(answer));
}

/** The stream of a path below `/api/v1`. Throws as `callService` does. It ends when the signal aborts. */
export async function openStream(
  service: Service,
  path: string,
  signal: AbortSignal,
  sent: Pick<RequestInit, "method" | "body" | "headers"> = { headers: { accept: "text/event-stream" } },
): Promise<ReadableStream<Uint8Array>> {
  const response = await fetchFrom(service, path, { ...sent, signal });
  if (response.ok && response.body) return response.body;
  const answer: unknown = await response.json().catch(() => undefined);
  if (typeof answer !== "object" || answer === null) throw notTheService(service, response.status);
  throw toProblem(response.status, Object.fromEntries(Object.entries(answer)));
}

async function fetchFrom(service: Service, path: string, init: RequestInit): Promise<Response> {
  const headers = new Headers(init.headers);
  if (service.token !== undefined) headers.set("authorization", `Bearer ${service.token}`);
  try {
    return await fetch(`${service.url}/api/v1${path}`, { ...init, headers });
  } catch (cause) {
    const fix = "Start the service, or name it with --url.";
    throw new Problem("connect", `${service.url} does not answer`, { fix, cause });
  }
}

function notTheService({ url }: Service, status: number): Problem {
  return new Problem("protocol", `${url} answered ${status} without JSON`, { fix: "Check --url." });
}

function toProblem(status: number, answer: Json): Problem {
  const errors = Array.isArray(answer["errors"]) ? (answer["errors"] as { path?: unknown; message?: unknown }[]) : [];
  const lines = errors.map(({ path, message }) => `  ${String(path)} ${String(message)}`);
  const what = [String(answer["detail"] ?? answer["title"] ?? `The service answered ${status}`), ...lines].join("\n");
  return new Problem("refused", what, { fix: String(answer["fix"] ?? "") });
}
