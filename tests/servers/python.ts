/** Provides Python with packages of PyPI, in an environment of its own within node_modules/.cache. */
import { createHash } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { canInstall, findProgram, installPackages } from "./install.ts";
import { run } from "./program.ts";

const MINUTES = 60_000;
const CACHE = fileURLToPath(new URL("../../node_modules/.cache", import.meta.url));

/** Makes the environment $1 with the packages after it, unless it is there; the file "made" says that it is whole. */
const MAKE = `
folder=$1; shift
test -e "$folder/made" && exit 0
rm -rf "$folder" && python3 -m venv "$folder" && "$folder/bin/pip" install -q --disable-pip-version-check "$@" && touch "$folder/made"
`;

/**
 * The path of a Python with these packages ("O365==2.1.10"); the first time it takes a while, and says so in one line.
 * Throws when there is no Python, or no way to the packages. Test processes take turns.
 */
export async function pythonWith(packages: string[]): Promise<string> {
  const name = createHash("sha256").update(packages.join(" ")).digest("hex").slice(0, 16);
  const folder = `${CACHE}/python-${name}`;
  await mkdir(CACHE, { recursive: true });
  if (!(await hasVenv()) && (await canInstall())) await installPackages(["python3", "python3-venv"]);
  console.log(`Python with ${packages.join(" ")}: ${folder}`);
  await run("flock", [`${folder}.lock`, "sh", "-c", MAKE, "sh", folder, ...packages], { timeoutMs: 15 * MINUTES });
  return `${folder}/bin/python`;
}

async function hasVenv(): Promise<boolean> {
  const python = await findProgram("python3");
  if (python === undefined) return false;
  return run(python, ["-c", "import ensurepip"]).then(
    () => true,
    () => false,
  );
}
