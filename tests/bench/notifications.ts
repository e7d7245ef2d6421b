/** How soon a node answers notifications of Microsoft Graph while its store stands still. Graph drops those of a slow address. */
import { setTimeout as sleep } from "node:timers/promises";
import { graphBody, register } from "../bodies.ts";
import { clusterEnv } from "../cluster-rig.ts";
import { startGraphServer } from "../servers/graph/server.ts";
import { freePorts } from "../servers/ports.ts";
import { provide } from "../servers/provide.ts";
import { startService } from "../service.ts";
import { status } from "../stories/scene.ts";
import { quantile } from "./measured.ts";
import { ratio, type Row, type Setup, shown } from "./report.ts";
import { command } from "./rivals.ts";

const NOTIFICATIONS = 10_000;
const PER_SECOND = NOTIFICATIONS / 60;
const GOAL_MS = 300;
const ANN = "ann@example.com";

/** 10,000 notifications in a minute: half for a mailbox of this node, half for one that no node watches. */
export async function notifications({ runtime }: Setup): Promise<Row[]> {
  const redis = await provide("redis");
  if (!redis) return [];
  const [port = 0] = await freePorts(1);
  const env = { ...clusterEnv({ redisUrl: redis.server.url }), PORT: String(port), SESSION_TTL_SECONDS: "120" };
  const server = await startGraphServer();
  const service = await startService({ ...env, PUBLIC_URL: `http://127.0.0.1:${port}` }, command(runtime));
  try {
    await server.addUser(ANN);
    await register(service, { id: "ann", ...graphBody(server, ANN) });
    await status(service, "ann", "listening");
    const [{ clientState = "" } = {}] = server.subscriptions();
    await redis.server.pause();
    const times = await Promise.all(
      Array.from({ length: NOTIFICATIONS }, async (_, n) => {
        await sleep((n * 1_000) / PER_SECOND);
        const began = performance.now();
        const mailbox = n % 2 === 0 ? "ann" : "elsewhere";
        const answer = await fetch(`${service.url}/graph/notifications/${mailbox}`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ value: [{ clientState, changeType: "created" }] }),
        });
        if (answer.status !== 202) throw new Error(`A notification was answered ${answer.status}`);
        return performance.now() - began;
      }),
    );
    return [0.5, 0.99].map((share) => {
      const ms = quantile(times, share);
      const what = `Graph: ${NOTIFICATIONS} notifications in a minute, Redis stands still, p${share * 100}`;
      return { what, ours: shown(ms, "ms"), bare: shown(GOAL_MS, "ms"), compared: ratio(ms, GOAL_MS) };
    });
  } finally {
    await redis.server.resume();
    await service.end();
    await Promise.all([server.stop(), redis.server.remove()]);
  }
}
