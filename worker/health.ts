/** What machines ask a worker: alive, ready, metrics. */
import { createServer, type ServerResponse } from "node:http";
import { asProblem } from "../shared/contract/problem.ts";
import type { Metrics } from "../shared/telemetry/metrics.ts";

export type Health = { url: string; close(): Promise<void> };

/**
 * Serves `/healthz`, `/readyz` and `/metrics`, and nothing else. `ready` resolves when the worker can do its work and rejects
 * with why not. A port that cannot be had rejects.
 */
export async function healthServer(
  where: { host: string; port: number },
  { ready, measured }: { ready: () => Promise<void>; measured: Pick<Metrics, "render" | "contentType"> },
): Promise<Health> {
  const answers: Record<string, (response: ServerResponse) => Promise<void>> = {
    async "/healthz"(response) {
      json(response, 200, { ok: true });
    },
    async "/readyz"(response) {
      const cause = await ready().then(
        () => undefined,
        (error: unknown) => asProblem(error).message,
      );
      const ok = cause === undefined;
      json(response, ok ? 200 : 503, { ok, checks: [{ name: "store", ok, ...(!ok && { cause }) }] });
    },
    async "/metrics"(response) {
      const text = await measured.render();
      response.writeHead(200, { "content-type": measured.contentType }).end(text);
    },
  };
  const server = createServer((request, response) => {
    const answer = answers[new URL(request.url ?? "/", "http://worker").pathname];
    if (!answer) return json(response, 404, { ok: false });
    answer(response).catch((error: unknown) => json(response, 503, { ok: false, cause: asProblem(error).message }));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(where.port, where.host, resolve);
  });
  const address = server.address();
  const port = typeof address === "object" && address ? address.port : where.port;
  return {
    url: `http://${where.host.includes(":") ? `[${where.host}]` : where.host}:${port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function json(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}
