/** What the kernel knows of a process (Linux): its CPU seconds and its memory. */
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

/** The kernel counts CPU time for user programs in ticks of this length, whatever its own clock is. */
const TICK_SECONDS = 0.01;
const SETTLE_MS = 3000;
const COLLECTED_MS = 1500;
/** Bun's allocator gives memory back every 30 seconds, with the setting that the image has. */
const GIVEN_BACK_MS = 32_000;

/** CPU seconds of these processes together so far, user and system. */
export async function cpuSeconds(...pids: number[]): Promise<number> {
  let ticks = 0;
  for (const pid of pids) {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8");
    // The name in brackets may hold blanks: fields are counted after it. These are fields 14 and 15.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks * TICK_SECONDS;
}

/** Resident memory in KiB after a rest, two garbage collections, and the time in which the allocator gives memory back. */
export async function settledMemory(pid: number): Promise<number> {
  await sleep(SETTLE_MS);
  for (let n = 0; n < 2; n++) {
    process.kill(pid, "SIGUSR2");
    await sleep(COLLECTED_MS);
  }
  await sleep(GIVEN_BACK_MS);
  return residentMemory(pid);
}

/** Resident memory in KiB as it is now. */
export async function residentMemory(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]);
}

/** How many files this process and those that it starts may have open, connections among them. */
export async function openFilesLimit(): Promise<number> {
  return Number(/^Max open files\s+(\d+)/m.exec(await readFile("/proc/self/limits", "utf8"))?.[1]);
}

/** The value below which this share of the sorted values lies. */
export function quantile(values: number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}
