/** The `sizing` command: prints what so many mailboxes and so much mail need, and writes it as a patch for the manifests. */
import { writeFileSync } from "node:fs";
import process from "node:process";
import { parseArgs } from "node:util";
import { MEASURED, nodeMiB, ORIGINAL, RECKONED, REPLICA, type Sizing, sizing, totalOf } from "./sizing.ts";

const USAGE = "bun run sizing --mailboxes 2000 --flow 10 [--write k8s/overlays/production/sizing.yaml]";

/** The table as text. What is measured and what is assumed is said below it. */
export function table(sized: Sizing): string {
  const { api, worker, redis, rabbitmq } = sized;
  const row = (name: string, { replicas, cpu, memoryMiB }: Sizing["api"]) =>
    [name.padEnd(22), String(replicas).padStart(8), cpu.toFixed(2).padStart(8), String(memoryMiB).padStart(10)].join(
      "",
    );
  const sum = (parts: Sizing["api"][]) => {
    const { cpu, memoryMiB } = totalOf(parts);
    return `${"all".padEnd(30)}${cpu.toFixed(2).padStart(8)}${String(memoryMiB).padStart(10)}`;
  };
  const head = `${"".padEnd(22)}replicas    vCPU       MiB   (of one replica)`;
  const old = ORIGINAL;
  return [
    `${sized.mailboxes} mailboxes, ${sized.flow} mails per second in busy hours`,
    head,
    row("API nodes", api),
    row("workers", worker),
    row("Redis", redis),
    row("RabbitMQ", rabbitmq),
    sum([api, worker, redis, rabbitmq]),
    "",
    `for comparison, the original product's published row: ${old.flow} mails per second, ${old.mailboxesPerNode} mailboxes per node`,
    row("API nodes", old.api),
    row("workers", old.worker),
    row("Redis", old.redis),
    row("RabbitMQ", old.rabbitmq),
    sum([old.api, old.worker, old.redis, old.rabbitmq]),
    "",
    `Measured: ${MEASURED.mailboxBytes / 1024} KiB per idle mailbox, ${MEASURED.messageCpuSeconds * 1000} ms of CPU per message of 10 KB.`,
    `Reckoned with ${RECKONED.mailboxBytes / 1024} KiB and ${RECKONED.messageCpuSeconds * 1000} ms; 1000 mailboxes take ${nodeMiB(1000)} MiB. Redis and RabbitMQ are assumed.`,
    "",
  ].join("\n");
}

/** A kustomize patch with the bounds of both autoscalers: never below what is needed, up to twice as much. */
export function patch({ mailboxes, flow, api, worker }: Sizing): string {
  const bounds = (name: "api" | "worker", replicas: number) =>
    [
      "apiVersion: autoscaling/v2",
      "kind: HorizontalPodAutoscaler",
      "metadata:",
      `  name: ${name}`,
      "spec:",
      `  minReplicas: ${replicas}`,
      `  maxReplicas: ${Math.max(REPLICA[name].fewest * 2, replicas * 2)}`,
    ].join("\n");
  return [
    `# Written by: bun run sizing --mailboxes ${mailboxes} --flow ${flow} --write <this file>`,
    bounds("api", api.replicas),
    "---",
    `${bounds("worker", worker.replicas)}\n`,
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
