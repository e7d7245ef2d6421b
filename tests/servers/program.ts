/**
 * Programs started for tests: each in a process group of its own, so that all of it can be stopped, paused and
 * killed by id, and guarded, so that it ends and its files go even when the test process is killed.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { tellGuard } from "./guard.ts";

/** A running program with all the processes it has started in its group. */
export type Program = {
  pid: number;
  /** Resolves when the first process has ended. */
  exited: Promise<void>;
  running(): boolean;
  /** The end of what it has written to both outputs. */
  output(): string;
  /** Sends a signal to the whole group; a group that is gone is fine. */
  signal(name: NodeJS.Signals): void;
  /** Asks it to end (SIGTERM), and kills the group if it has not after `graceMs`. */
  stop(graceMs?: number): Promise<void>;
  /** SIGKILL to the whole group. */
  kill(): Promise<void>;
};

export type ProgramOptions = { env?: Record<string, string>; cwd?: string };

const KEPT_OUTPUT = 20_000;

/** Starts a program; whether it is ready its caller finds out. */
export async function startProgram(command: string, args: string[], options: ProgramOptions = {}): Promise<Program> {
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: environment(options),
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const pid = await started(child, command);
  tellGuard("group", pid);
  let written = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (chunk) => {
      written = (written + String(chunk)).slice(-KEPT_OUTPUT);
    });
  }
  const program: Program = {
    pid,
    exited,
    running: () => child.exitCode === null && child.signalCode === null,
    output: () => written,
    signal: (name) => signalGroup(pid, name),
    stop: async (graceMs = 10_000) => {
      // To the first process only, which ends its children in the order it wants; a paused one must run for that.
      if (program.running()) child.kill("SIGTERM");
      signalGroup(pid, "SIGCONT");
      await Promise.race([exited, sleep(graceMs, undefined, { ref: false })]);
      await program.kill();
    },
    kill: async () => {
      signalGroup(pid, "SIGKILL");
      await exited;
      // Killed children that have no parent any more are reaped by the first process of the machine, some time.
      for (let waits = 0; waits < 20 && groupExists(pid); waits++) await sleep(5);
      tellGuard("ended", pid);
    },
  };
  return program;
}

/** Runs a program to its end and resolves with its output; rejects when it fails or takes too long. */
export function run(
  command: string,
  args: string[],
  options: ProgramOptions & { timeoutMs?: number } = {},
): Promise<string> {
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: environment(options),
    stdio: ["ignore", "pipe", "pipe"],
    timeout: options.timeoutMs ?? 30_000,
    killSignal: "SIGKILL",
  });
  let written = "";
  child.stdout.on("data", (chunk) => (written += String(chunk)));
  child.stderr.on("data", (chunk) => (written += String(chunk)));
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      if (code === 0) resolve(written);
      else reject(new Error(`${command} ${args.join(" ")} ended with ${code ?? signal}: ${written.slice(-2000)}`));
    });
  });
}

/** Waits until the program takes connections on the port; rejects with its output if it ends or is too slow. */
export async function listening(program: Program, port: number, timeoutMs = 30_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (performance.now() < deadline && program.running()) {
    if (await accepts(port)) return;
    await sleep(30);
  }
  const why = program.running() ? `does not listen on port ${port} after ${timeoutMs} ms` : "has ended";
  await program.kill();
  throw new Error(`The program ${why}: ${program.output()}`);
}

/** Whether somebody takes connections on this port of 127.0.0.1. */
export function accepts(port: number, host = "127.0.0.1"): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, host);
    const done = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(2000, () => done(false));
    socket.once("connect", () => done(true));
    socket.once("error", () => done(false));
  });
}

/**
 * Makes a folder for a server's files; it goes at the latest when the test process ends. Its path is short, because
 * Unix sockets live in it (108 bytes at most).
 */
export async function temporaryFolder(name: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), `${name}-`));
  tellGuard("folder", folder);
  return folder;
}

/** Removes a folder and what is in it. */
export async function removeFolder(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  tellGuard("removed", folder);
}

// Servers live in sbin, which is not on every user's path.
function environment({ env }: ProgramOptions): NodeJS.ProcessEnv {
  return { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/local/sbin:/usr/sbin:/sbin`, ...env };
}

function started(child: ChildProcess, command: string): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once("error", (error) => reject(new Error(`${command} cannot be started`, { cause: error })));
    if (child.pid !== undefined) resolve(child.pid);
  });
}

function signalGroup(group: number, name: NodeJS.Signals): void {
  try {
    process.kill(-group, name);
  } catch {
    // The group is gone already.
  }
}

function groupExists(group: number): boolean {
  try {
    process.kill(-group, 0);
    return true;
  } catch {
    return false;
  }
}
