/** `keys rotate` as people run it. */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { SAME_RUNTIME } from "../service.ts";

const main = fileURLToPath(new URL("../../api/cli/keys.ts", import.meta.url));

export const newKey = (id: string) => `${id}:${randomBytes(32).toString("base64")}`;

export function startRotation(env: Record<string, string>, [program = "", ...args] = SAME_RUNTIME): ChildProcess {
  return spawn(program, [...args, main, "rotate"], {
    // The environment may name the broker that the test files share.
    env: { ...process.env, RABBITMQ_URL: "", ...env },
    stdio: "pipe",
  });
}

export async function rotate(
  env: Record<string, string>,
  command?: string[],
): Promise<{ code: number | null; output: string }> {
  const child = startRotation(env, command);
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream?.on("data", (chunk: Buffer) => (output += chunk.toString()));
  await once(child, "close");
  return { code: child.exitCode, output };
}
