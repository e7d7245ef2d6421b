/** The service as its users run it: a process of its own, on the runtime of the test, that can be stopped, killed and started again. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

export type Answer = { status: number; headers: Headers; body: any };

export interface Service {
  readonly url: string;
  readonly dataDir: string;
  readonly pid: number;
  /** Facts logged so far, over all starts. */
  readonly facts: { kind: string; at: string; [key: string]: unknown }[];
  /** All output so far, over all starts. */
  readonly output: string;
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>;
  /** Resolves with what `probe` returns once that is neither false nor undefined; rejects after `ms` with the last output. */
  until<T>(what: string, probe: () => T | undefined | false | Promise<T | undefined | false>, ms?: number): Promise<T>;
  /** SIGKILL. */
  kill(): Promise<void>;
  /** SIGSTOP: it stands still with its connections open, until `resume`. */
  pause(): void;
  resume(): void;
  /** SIGTERM; resolves with the exit code and how long it took. */
  stop(): Promise<{ code: number | null; ms: number }>;
  start(env?: Record<string, string>): Promise<void>;
  /** Kills it if it runs and removes its data. */
  end(): Promise<void>;
}

/** The program of an API node or a worker: the one of the image in the test command, else the sources. */
export function programOf(role: "api" | "worker"): string {
  const directory = process.env["SERVICE_DIR"];
  return directory ? join(directory, `${role}-main.js`) : join(ROOT, role, "main.ts");
}

/** Most probes ask the service, and each question costs it and the test milliseconds of a core. */
const LONGEST_PAUSE_MS = 150;
export const TOKEN = "a-token-for-tests";

/** How to run a TypeScript program on the runtime of the test. */
export const SAME_RUNTIME = [process.execPath, ...("deno" in process.versions ? ["run", "-A", "--no-check"] : [])];

const ON_NODE = new Set(["api-0", "worker-1"]);
/** How the node of this name is run where nodes on Node and nodes on Bun work together. Stories kill and pause nodes of both. */
export const bothRuntimes = (node: string): string[] => [
  ON_NODE.has(node) ? "node_modules/node/bin/node" : "node_modules/.bin/bun",
];

/** Starts a node with an empty data directory and time compressed: retries come twenty times as fast. */
export async function startService(
  env: Record<string, string> = {},
  command = SAME_RUNTIME,
  role: "api" | "worker" = "api",
): Promise<Service> {
  const main = programOf(role);
  const dataDir = await mkdtemp(join(tmpdir(), "email-listener-"));
  const facts: Service["facts"] = [];
  let output = "";
  let url = "";
  let child: ChildProcess | undefined;

  const start = async (more: Record<string, string> = {}) => {
    const settings = {
      HOST: "127.0.0.1",
      PORT: "0",
      API_TOKENS: TOKEN,
      CRM_ACCESS: "networks:127.0.0.0/8",
      DATA_DIR: dataDir,
      BACKOFF_SCALE: "0.05",
      CONNECTIONS_PER_HOST_PER_SECOND: "500",
      // What names servers for the tests is not meant for the service.
      REDIS_URL: "",
      RABBITMQ_URL: "",
    };
    const [program = process.execPath, ...args] = command;
    const started = spawn(program, [...args, main], {
      env: { ...process.env, NODE_ENV: "test", ...settings, ...env, ...more },
      stdio: ["ignore", "pipe", "pipe"],
    });
    child = started;
    let partial = "";
    url = "";
    const up = Promise.withResolvers<void>();
    const read = (chunk: Buffer) => {
      output += chunk.toString();
      const lines = (partial + chunk.toString()).split("\n");
      partial = lines.pop() ?? "";
      for (const line of lines.filter((l) => l.startsWith("{"))) {
        const fact = JSON.parse(line);
        facts.push(fact);
        if (fact.kind !== "service.started") continue;
        url = fact.url;
        up.resolve();
      }
    };
    started.stdout.on("data", read);
    started.stderr.on("data", (chunk: Buffer) => (output += chunk.toString()));
    started.once("exit", (code) =>
      up.reject(new Error(`The service ended with ${code} before it was up:\n${output.slice(-4000)}`)),
    );
    const timer = setTimeout(() => up.reject(new Error(`The service did not start:\n${output.slice(-4000)}`)), 60_000);
    await up.promise.finally(() => clearTimeout(timer));
  };

  const ended = async (signal: NodeJS.Signals) => {
    const one = child;
    if (!one || one.exitCode !== null || one.signalCode !== null) return;
    const exit = once(one, "exit");
    // Not one.kill(): on Deno a child signalled that way never has an exit code.
    if (one.pid !== undefined) process.kill(one.pid, signal);
    await exit;
  };

  const signal = (name: NodeJS.Signals) => {
    if (child?.pid !== undefined) process.kill(child.pid, name);
  };

  const service: Service = {
    get url() {
      return url;
    },
    dataDir,
    get pid() {
      return child?.pid ?? 0;
    },
    facts,
    get output() {
      return output;
    },
    async call(method, path, body, headers = {}) {
      const asked = performance.now();
      const lost = (cause: unknown) => {
        const ms = Math.round(performance.now() - asked);
        throw new Error(`${method} ${path} had no answer after ${ms} ms: ${String(cause)}`, { cause });
      };
      const response = await fetch(url + path, {
        method,
        headers: {
          authorization: `Bearer ${TOKEN}`,
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
        signal: AbortSignal.timeout(30_000),
      }).catch(lost);
      const text = await response.text().catch(lost);
      const json = response.headers.get("content-type")?.includes("json");
      return { status: response.status, headers: response.headers, body: json && text ? JSON.parse(text) : text };
    },
    async until(what, probe, ms = 60_000) {
      const end = Date.now() + ms;
      for (let pause = 25; ; pause = Math.min(1.15 * pause, LONGEST_PAUSE_MS)) {
        const found = await probe();
        if (found !== undefined && found !== false) return found;
        if (Date.now() > end) throw new Error(`Waited ${ms} ms in vain for: ${what}\n${output.slice(-4000)}`);
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    },
    kill: () => ended("SIGKILL"),
    pause: () => signal("SIGSTOP"),
    resume: () => signal("SIGCONT"),
    async stop() {
      const began = performance.now();
      await ended("SIGTERM");
      return { code: child?.exitCode ?? null, ms: performance.now() - began };
    },
    start,
    async end() {
      await ended("SIGKILL");
      await rm(dataDir, { recursive: true, force: true });
    },
  };
  try {
    await start();
  } catch (error) {
    await service.end();
    throw error;
  }
  return service;
}
