/** Finds the programs that tests need and, on Debian as root, installs the packages that are missing. */
import { access, constants, rm, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { run } from "./program.ts";

const MINUTES = 60_000;

/** The full path of a program on the path or in an sbin folder; undefined if it is not there. */
export async function findProgram(name: string): Promise<string | undefined> {
  const folders = [...(process.env["PATH"] ?? "").split(":"), "/usr/local/sbin", "/usr/sbin", "/sbin"];
  for (const path of folders.map((folder) => join(folder, name))) if (await isThere(path)) return path;
  return undefined;
}

/** Whether a file can be executed, or at least read. */
export async function isThere(path: string): Promise<boolean> {
  return access(path, constants.R_OK).then(
    () => true,
    () => false,
  );
}

/** Whether packages can be installed here. */
export async function canInstall(): Promise<boolean> {
  return (
    process.getuid?.() === 0 && (await isThere("/etc/debian_version")) && (await findProgram("apt-get")) !== undefined
  );
}

/** Installs Debian packages without starting their services; says so in one line. Test processes take turns. */
export async function installPackages(packages: string[]): Promise<void> {
  console.log(`Installing for the tests: ${packages.join(" ")}`);
  const lock = "/tmp/email-listener-tests-apt.lock";
  const policy = "/usr/sbin/policy-rc.d";
  // Without this file Debian starts what it installs; one that is there already is the machine owner's.
  const ours = !(await isThere(policy));
  if (ours) await writeFile(policy, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  const options = ["-q", "-y", "-o", "DPkg::Lock::Timeout=300"];
  const commands = [
    ["apt-get", ...options, "update"],
    ["apt-get", ...options, "install", "--no-install-recommends", ...packages],
  ];
  try {
    for (const command of commands) {
      await run("flock", [lock, ...command], { timeoutMs: 15 * MINUTES, env: { DEBIAN_FRONTEND: "noninteractive" } });
    }
  } finally {
    if (ours) await rm(policy, { force: true });
  }
}

/** Where the jar of this Maven artifact is kept, whether it is there or not: "com.icegreen:greenmail-standalone:2.1.0". */
export function jarPath(artifact: string): string {
  const [group = "", name = "", version = ""] = artifact.split(":");
  const folder = join(homedir(), ".m2", "repository", ...group.split("."), name, version);
  return join(folder, `${name}-${version}.jar`);
}

/** Downloads the jar of a Maven artifact to `jarPath`; says so in one line. */
export async function downloadJar(artifact: string): Promise<void> {
  console.log(`Downloading for the tests: ${artifact}`);
  await run("mvn", ["-q", "-B", "dependency:get", `-Dartifact=${artifact}`, "-Dtransitive=false"], {
    timeoutMs: 10 * MINUTES,
  });
}
