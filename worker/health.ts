/** What machines ask a worker: alive, ready, metrics. */
import { createServer, type ServerResponse } from "node:http";
import { asProblem } from "../shared/contract/problem.ts";
import type { ReadinessCheck } from "../shared/readiness.ts";
import type { Metrics } from "../shared/telemetry/metrics.ts";

export type HealthServer = { url: string; close(): Promise<void> };

/** Serves `/healthz`, `/readyz` and `/metrics`, and nothing else. Rejects if it cannot listen on the port. */
export async function healthServer(
  where: { host: string; port: number },
  { check, measured }: { check: () => Promise<ReadinessCheck[]>; measured: Pick<Metrics, "render" | "contentType"> },
): Promise<HealthServer> {
  const handlers: Record<string, (response: ServerResponse) => Promise<void>> = {
    async "/healthz"(response) {
      respondJson(response, 200, { ok: true });
    },
    async "/readyz"(response) {
      const checks = (await check()).map(({ name, problem }) => ({
        name,
        ok: problem === null,
        ...(problem && { cause: problem.message }),
      }));
      const ok = checks.every((one) => one.ok);
      respondJson(response, ok ? 200 : 503, { ok, checks });
    },
    async "/metrics"(response) {
      const text = await measured.render();
      response.writeHead(200, { "content-type": measured.contentType }).end(text);
    },
  };
  const server = createServer((request, response) => {
    const handler = handlers[new URL(request.url ?? "/", "http://worker").pathname];
    if (!handler) return respondJson(response, 404, { ok: false });
    handler(response).catch((error: unknown) =>
      respondJson(response, 503, { ok: false, cause: asProblem(error).message }),
    );
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

function respondJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}
