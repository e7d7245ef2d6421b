/** The `sizing` command: prints what so many mailboxes and so much mail need, and writes it as a patch for the manifests. */
import { writeFileSync } from "node:fs";
import process from "node:process";
import { parseArgs } from "node:util";
import { MEASURED, nodeMiB, ORIGINAL, RECKONED, REPLICA, type Sizing, sizing, totalOf } from "../sizing.ts";

const USAGE = "bun run sizing --mailboxes 2000 --flow 10 [--write k8s/overlays/production/sizing.yaml]";

type Part = Sizing["api"];

const columns = (name: string, replicas: string, cpu: number, memoryMiB: number) =>
  [name.padEnd(22), replicas.padStart(8), cpu.toFixed(2).padStart(8), String(memoryMiB).padStart(10)].join("");

/** One line for each part and one for all of them. */
function rows(parts: { api: Part; worker: Part; redis: Part; rabbitmq: Part }): string[] {
  const { api, worker, redis, rabbitmq } = parts;
  const named: [string, Part][] = [
    ["API nodes", api],
    ["workers", worker],
    ["Redis", redis],
    ["RabbitMQ", rabbitmq],
  ];
  const all = totalOf(named.map(([, part]) => part));
  return [
    ...named.map(([name, { replicas, cpu, memoryMiB }]) => columns(name, String(replicas), cpu, memoryMiB)),
    columns("all", "", all.cpu, all.memoryMiB),
  ];
}

/** The table as text. What is measured and what is assumed is said below it. */
function table(sized: Sizing): string {
  const { flow, mailboxesPerNode, ...old } = ORIGINAL;
  return [
    `${sized.mailboxes} mailboxes, ${sized.flow} mails per second in busy hours`,
    `${"".padEnd(22)}replicas    vCPU       MiB   (of one replica)`,
    ...rows(sized),
    "",
    `for comparison, the original product's published row: ${flow} mails per second, ${mailboxesPerNode} mailboxes per node`,
    ...rows(old),
    "",
    `Measured: ${MEASURED.mailboxBytes / 1024} KiB per idle mailbox, ${MEASURED.messageCpuSeconds * 1000} ms of CPU per message of 10 KB.`,
    `Reckoned with ${RECKONED.mailboxBytes / 1024} KiB and ${RECKONED.messageCpuSeconds * 1000} ms; 1000 mailboxes take ${nodeMiB(1000)} MiB. Redis and RabbitMQ are assumed.`,
    "",
  ].join("\n");
}

/** A kustomize patch with the bounds of both autoscalers: never below what is needed, up to twice as much. */
export function patch({ mailboxes, flow, api, worker }: Sizing): string {
  return [
    `# Written by: bun run sizing --mailboxes ${mailboxes} --flow ${flow} --write <this file>`,
    bounds("api", api.replicas),
    "---",
    `${bounds("worker", worker.replicas)}\n`,
  ].join("\n");
}

function bounds(name: "api" | "worker", replicas: number): string {
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
  const options = { mailboxes: { type: "string" }, flow: { type: "string" }, write: { type: "string" } } as const;
  const { values } = parseArgs({ options });
  const [mailboxes, flow] = [Number(values.mailboxes ?? 1000), Number(values.flow ?? 1)];
  if (!Number.isInteger(mailboxes) || mailboxes < 0 || !Number.isFinite(flow) || flow < 0) {
    console.error(`Mailboxes must be a whole number and flow a number: ${USAGE}`);
    process.exitCode = 2;
    return;
  }
  const sized = sizing({ mailboxes, flow });
  process.stdout.write(table(sized));
  if (!values.write) return;
  writeFileSync(values.write, patch(sized));
  process.stdout.write(`\nwritten: ${values.write}\n`);
}

if (import.meta.main) main();
