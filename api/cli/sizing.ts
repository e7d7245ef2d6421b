/** The `sizing` command: prints what this many mailboxes and mails need, and writes it as a patch for the manifests. */
import { writeFileSync } from "node:fs";
import process from "node:process";
import { parseArgs } from "node:util";
import {
  MEASURED,
  nodeMiB,
  ORIGINAL_PRODUCT,
  PLANNED,
  REPLICA,
  type Sizing,
  computeSizing,
  totalOf,
} from "../sizing.ts";
import { Problem } from "../../shared/contract/problem.ts";
import { reportFailure } from "./failure.ts";

const USAGE = "bun run sizing --mailboxes 2000 --flow 10 [--write k8s/overlays/production/sizing.yaml]";

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
    `Measured: ${MEASURED.mailboxBytes / 1024} KiB per idle mailbox, ${MEASURED.messageCpuSeconds * 1000} ms of CPU per message of 10 KB.`,
    `Planned with ${PLANNED.mailboxBytes / 1024} KiB and ${PLANNED.messageCpuSeconds * 1000} ms; 1000 mailboxes take ${nodeMiB(1000)} MiB. The figures for Redis and RabbitMQ are assumed.`,
    "",
  ].join("\n");
}

/** A kustomize patch with the bounds of both autoscalers: at least what is needed, at most twice as much. */
export function autoscalerPatch({ mailboxes, flow, api, worker }: Sizing): string {
  return [
    `# Written by: bun run sizing --mailboxes ${mailboxes} --flow ${flow} --write <this file>`,
    autoscalerBounds("api", api.replicas),
    "---",
    `${autoscalerBounds("worker", worker.replicas)}\n`,
  ].join("\n");
}

function autoscalerBounds(name: "api" | "worker", replicas: number): string {
  return [
    "apiVersion: autoscaling/v2",
    "kind: HorizontalPodAutoscaler",
    "metadata:",
    `  name: ${name}`,
    "spec:",
    `  minReplicas: ${replicas}`,
    `  maxReplicas: ${Math.max(REPLICA[name].fewest * 2, replicas * 2)}`,
  ].join("\n");
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
    writeFileSync(write, autoscalerPatch(sized));
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
