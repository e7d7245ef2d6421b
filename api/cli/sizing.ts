/** The `sizing` command: prints what this many mailboxes and mails need, and writes it as a component for the manifests. */
import { writeFileSync } from "node:fs";
import process from "node:process";
import { parseArgs } from "node:util";
import {
  MEASURED,
  nodeMiB,
  ORIGINAL_PRODUCT,
  PLANNED,
  RABBITMQ,
  redisLimitMiB,
  REPLICA,
  type Sizing,
  computeSizing,
  totalOf,
} from "../sizing.ts";
import { Problem } from "../../shared/contract/problem.ts";
import { reportFailure } from "./failure.ts";

const USAGE = "bun run sizing --mailboxes 2000 --flow 10 [--write k8s/overlays/production/sizing/kustomization.yaml]";

type ComponentSize = Sizing["api"];

const formatRow = (name: string, replicas: string, cpu: number, memoryMiB: number) =>
  [name.padEnd(22), replicas.padStart(8), cpu.toFixed(2).padStart(8), String(memoryMiB).padStart(10)].join("");

/** One line for each part, and one for all of them. */
function formatRows(parts: {
  api: ComponentSize;
  worker: ComponentSize;
  redis: ComponentSize;
  rabbitmq: ComponentSize;
}): string[] {
  const { api, worker, redis, rabbitmq } = parts;
  const named: [string, ComponentSize][] = [
    ["API nodes", api],
    ["workers", worker],
    ["Redis", redis],
    ["RabbitMQ", rabbitmq],
  ];
  const all = totalOf(named.map(([, part]) => part));
  return [
    ...named.map(([name, { replicas, cpu, memoryMiB }]) => formatRow(name, String(replicas), cpu, memoryMiB)),
    formatRow("all", "", all.cpu, all.memoryMiB),
  ];
}

/** The table as text. The lines below it say what was measured and what is assumed. */
function formatTable(sized: Sizing): string {
  const { flow, mailboxesPerNode, ...old } = ORIGINAL_PRODUCT;
  return [
    `${sized.mailboxes} mailboxes, ${sized.flow} mails per second in busy hours`,
    `${"".padEnd(22)}replicas    vCPU       MiB   (of one replica)`,
    ...formatRows(sized),
    "",
    `for comparison, the original product's published row: ${flow} mails per second, ${mailboxesPerNode} mailboxes per node`,
    ...formatRows(old),
    "",
    `Measured: ${Math.round(MEASURED.mailboxBytes.value / 1024)} KiB per idle mailbox (${MEASURED.mailboxBytes.from}),`,
    `${(MEASURED.messageCpuSeconds.value * 1000).toFixed(1)} ms of CPU per message of 10 KB (${MEASURED.messageCpuSeconds.from}).`,
    `Planned with ${PLANNED.mailboxBytes / 1024} KiB and ${PLANNED.messageCpuSeconds * 1000} ms; 1000 mailboxes take ${nodeMiB(1000)} MiB. Redis keeps ${PLANNED.rememberedBytes} bytes of a message (measured: ${MEASURED.rememberedBytes.value}); the figures for RabbitMQ are assumed.`,
    "",
  ].join("\n");
}

/**
 * A kustomize component with everything that depends on the demand: the bounds of the autoscalers of either kind (at least
 * what is needed, at most twice as much), and the memory of Redis and RabbitMQ. A patch without its target does nothing.
 */
export function sizingComponent({ mailboxes, flow, api, worker, redis, rabbitmq }: Sizing): string {
  const bounds = (["api", "worker"] as const).flatMap((name) => {
    const size = name === "api" ? api : worker;
    return [
      patch("HorizontalPodAutoscaler", name, { minReplicas: size.replicas, maxReplicas: mostReplicas(name, size) }),
      patch("ScaledObject", name, { minReplicaCount: size.replicas, maxReplicaCount: mostReplicas(name, size) }),
    ];
  });
  const memory = { requests: `${redis.memoryMiB}Mi`, limits: `${redisLimitMiB(redis.memoryMiB)}Mi` };
  return [
    `# Written by: bun run sizing --mailboxes ${mailboxes} --flow ${flow} --write <this file>`,
    "apiVersion: kustomize.config.k8s.io/v1alpha1",
    "kind: Component",
    "patches:",
    ...bounds,
    patch("StatefulSet", "redis", {
      [`${CONTAINER}/resources/requests/memory`]: memory.requests,
      [`${CONTAINER}/resources/limits/memory`]: memory.limits,
      // Redis reads MiB as "mb".
      [`${CONTAINER}/env/0/value`]: `${redis.memoryMiB}mb`,
    }),
    patch("StatefulSet", "rabbitmq", {
      [`${CONTAINER}/resources/requests/memory`]: `${rabbitmq.memoryMiB}Mi`,
      [`${CONTAINER}/resources/limits/memory`]: `${RABBITMQ.memoryLimitMiB}Mi`,
    }),
    "",
  ].join("\n");
}

function mostReplicas(name: "api" | "worker", { replicas }: ComponentSize): number {
  return 2 * Math.max(REPLICA[name].fewest, replicas);
}

const CONTAINER = "template/spec/containers/0";

function patch(kind: string, name: string, values: Record<string, string | number>): string {
  const lines = Object.entries(values).map(
    ([path, value]) => `      - { op: replace, path: /spec/${path}, value: ${value} }`,
  );
  return [`  - target: { kind: ${kind}, name: ${name} }`, "    patch: |", ...lines].join("\n");
}

function main(): void {
  const demand = readDemand();
  if (demand === undefined) {
    console.error(`Mailboxes must be a whole number and flow a number: ${USAGE}`);
    process.exitCode = 2;
    return;
  }
  const { mailboxes, flow, write } = demand;
  const sized = computeSizing({ mailboxes, flow });
  process.stdout.write(formatTable(sized));
  if (write === undefined) return;
  try {
    writeFileSync(write, sizingComponent(sized));
    process.stdout.write(`\nwritten: ${write}\n`);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    reportFailure(
      `${write} was not written`,
      new Problem("config", why, { fix: "Name a file in a folder that there is." }),
    );
  }
}

const OPTIONS = { mailboxes: { type: "string" }, flow: { type: "string" }, write: { type: "string" } } as const;

/** What the command line asks for; undefined if it cannot be understood. An empty value is a mistake, not a zero. */
function readDemand(): { mailboxes: number; flow: number; write: string | undefined } | undefined {
  try {
    const { mailboxes = "1000", flow = "1", write } = parseArgs({ options: OPTIONS }).values;
    if (!/^\d+$/.test(mailboxes) || !/^\d+(\.\d+)?$/.test(flow) || write === "") return undefined;
    return { mailboxes: Number(mailboxes), flow: Number(flow), write };
  } catch {
    return undefined;
  }
}

if (import.meta.main) main();
