/**
 * The replica table: from mailboxes and mails per second to replicas, vCPU and memory. The manifests' numbers (targets and
 * bounds of the autoscalers, requests and limits) are these, and a test holds them together.
 */
import * as v from "valibot";

const MiB = 2 ** 20;

/** Counted on 2 shared cores with Bun, messages of 10 KB. */
export const MEASURED = {
  /** One API node without mailboxes: 90 to 150 MB. */
  baseBytes: 150 * MiB,
  /** One idle IMAP mailbox over TLS: 110 to 130 KiB. */
  mailboxBytes: 130 * 1024,
  /** To parse, sign and post one message: 1 to 2 ms of CPU. */
  messageCpuSeconds: 0.002,
} as const;

/** What is promised of the above: about twice the memory, and ten times the CPU, for real mail is larger and comes in bursts. */
export const RECKONED = {
  baseBytes: 200 * MiB,
  mailboxBytes: 256 * 1024,
  messageCpuSeconds: 0.02,
  /** Kept in Redis of one delivered message until WINDOW_DAYS have passed; assumed, not measured. */
  rememberedBytes: 1024,
  /** The mean flow over a week, as a part of the flow in busy hours; assumed. */
  meanFlow: 0.25,
} as const;

/** One replica of each kind. `cpu` and `memoryMiB` are what it reserves, the limits what it may take for a while. */
export const REPLICA = {
  api: { cpu: 0.25, memoryMiB: 512, cpuLimit: 1, memoryLimitMiB: 1024, fewest: 2, most: 50 },
  worker: { cpu: 0.25, memoryMiB: 512, cpuLimit: 1, memoryLimitMiB: 1024, fewest: 2, most: 50 },
} as const;

/** Mailboxes an API node should hold: the target of its autoscaler. */
export const MAILBOXES_TARGET = 1000;
/** Mailboxes it can hold (MAILBOXES_PER_NODE): two nodes, one of which is away, and the 10 % an autoscaler tolerates. */
export const MAILBOXES_MOST = 2200;
/** Mails per second of one worker with its reserved CPU, with room for twice as many. */
export const WORKER_FLOW = 5;
/** Tasks that wait, per worker, above which workers are added; and the wait of one task that does the same. */
export const WORKER_BACKLOG = 50;
export const WORKER_WAIT_SECONDS = 5;
/** How far from its target an autoscaler of Kubernetes lets a figure drift. */
export const TOLERANCE = 0.1;

/** The row that the original product published, with what it says per replica. */
export const ORIGINAL = {
  flow: 4,
  mailboxesPerNode: 50,
  api: { replicas: 4, cpu: 0.15, memoryMiB: 850 },
  worker: { replicas: 15, cpu: 0.1, memoryMiB: 1126 },
  redis: { replicas: 1, cpu: 0.5, memoryMiB: 3072 },
  rabbitmq: { replicas: 1, cpu: 0.5, memoryMiB: 4096 },
} as const;

const Part = v.object({ replicas: v.number(), cpu: v.number(), memoryMiB: v.number() });
const Total = v.object({ cpu: v.number(), memoryMiB: v.number() });
export const Sizing = v.object({
  mailboxes: v.number(),
  flow: v.number(),
  api: Part,
  worker: Part,
  redis: Part,
  rabbitmq: Part,
  total: Total,
});
export type Sizing = v.InferOutput<typeof Sizing>;

type Demand = { mailboxes: number; flow: number };

/**
 * What so many mailboxes and so many mails per second in busy hours need; `cpu` in vCPU and `memoryMiB` are of one replica, the
 * total is of all. Two of each are the fewest, so that one may be away.
 */
export function sizing({ mailboxes, flow }: Demand): Sizing {
  const { cpu, memoryMiB } = REPLICA.api;
  const api = { replicas: Math.max(REPLICA.api.fewest, Math.ceil(mailboxes / MAILBOXES_TARGET)), cpu, memoryMiB };
  const replicas = Math.max(REPLICA.worker.fewest, Math.ceil(flow / WORKER_FLOW));
  const worker = { replicas, cpu: REPLICA.worker.cpu, memoryMiB: REPLICA.worker.memoryMiB };
  const redis = { replicas: 1, cpu: 0.5, memoryMiB: redisMiB({ mailboxes, flow }) };
  const rabbitmq = { replicas: 1, cpu: 0.5, memoryMiB: 1024 };
  return { mailboxes, flow, api, worker, redis, rabbitmq, total: totalOf([api, worker, redis, rabbitmq]) };
}

/** The sum over all replicas of all parts. */
export function totalOf(parts: readonly v.InferOutput<typeof Part>[]): v.InferOutput<typeof Total> {
  const sum = (of: "cpu" | "memoryMiB") => parts.reduce((all, part) => all + part.replicas * part[of], 0);
  return { cpu: Math.round(sum("cpu") * 100) / 100, memoryMiB: sum("memoryMiB") };
}

/** The memory that a node with so many mailboxes is reckoned to take, in MiB. */
export function nodeMiB(mailboxes: number): number {
  return Math.ceil((RECKONED.baseBytes + mailboxes * RECKONED.mailboxBytes) / MiB);
}

const WEEK_SECONDS = 7 * 86_400;
/** SPOOL_BYTES and what Redis itself takes; the spool fills only while endpoints are away. */
const REDIS_BASE_MIB = 2048 + 256;
const REDIS_MAILBOX_BYTES = 16 * 1024;

/** In whole half GiB. */
function redisMiB({ mailboxes, flow }: Demand): number {
  const remembered = flow * RECKONED.meanFlow * WEEK_SECONDS * RECKONED.rememberedBytes;
  const needed = REDIS_BASE_MIB + (remembered + mailboxes * REDIS_MAILBOX_BYTES) / MiB;
  return Math.ceil(needed / 512) * 512;
}
