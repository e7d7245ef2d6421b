/** A program of the bench in a process of its own that reads orders line by line and answers each with a line. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

export type Program = {
  pid: number;
  /** Sends an order, if one is given, and resolves with the next line the program says. */
  order(order?: unknown): Promise<string>;
  end(): Promise<void>;
};

const LONGEST_MS = 300_000;

/** Starts `command`. If the program ends by itself, whoever waits for it gets an error that says so. */
export function startProgram([program, ...args]: readonly [string, ...string[]]): Program {
  const child = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
  const answers = createInterface({ input: child.stdout });
  return {
    pid: child.pid ?? 0,
    async order(order) {
      const over = new AbortController();
      const exited = () => over.abort(new Error(`${args.at(-1)} ended`));
      child.once("exit", exited);
      const line = once(answers, "line", { signal: AbortSignal.any([over.signal, AbortSignal.timeout(LONGEST_MS)]) });
      if (order !== undefined) child.stdin.write(`${JSON.stringify(order)}\n`);
      try {
        return String((await line)[0]);
      } finally {
        child.removeListener("exit", exited);
      }
    },
    end: () => killed(child),
  };
}

async function killed(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, "exit");
  child.kill("SIGKILL");
  await exit;
}
