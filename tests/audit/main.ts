/**
 * `bun run audit`: checks licences, install scripts, versions and unused packages from bun.lock and node_modules, and ends
 * with 1 if anything is wrong. `--sbom=FILE` also writes the bill of materials.
 */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { findFaults } from "./findings.ts";
import { readPackages } from "./packages.ts";
import { REVIEWED_INSTALL_SCRIPTS } from "./rules.ts";
import { makeSbom } from "./sbom.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const packages = readPackages(root);
const installed = packages.all.flatMap((one) => (one.installed ? [one.installed] : []));
const atRunTime = packages.all.filter((one) => one.atRunTime);
console.log(
  `${packages.all.length} packages in bun.lock, ${installed.length} installed here, ${atRunTime.length} at run time`,
);
console.log(
  `(${packages.all.length - installed.length} are for other platforms. Their licences are read where they are installed.)`,
);

const byLicence = Map.groupBy(installed, ({ licence }) => licence ?? "none");
for (const [licence, some] of [...byLicence].toSorted(([, a], [, b]) => b.length - a.length))
  console.log(`${String(some.length).padStart(5)}  ${licence}`);
console.log("Install scripts:");
for (const [name, why] of Object.entries(REVIEWED_INSTALL_SCRIPTS)) console.log(`  ${name}: ${why}`);

const faults = findFaults(packages);
const unused = spawnSync(join(root, "node_modules/.bin/knip"), ["--dependencies", "--no-progress"], {
  cwd: root,
  encoding: "utf8",
  timeout: 120_000,
});
if (unused.status !== 0) faults.push(`Unused or missing dependencies:\n${unused.stdout}${unused.stderr}`.trim());

const target = process.argv.find((word) => word.startsWith("--sbom="))?.slice("--sbom=".length);
if (target !== undefined) {
  writeFileSync(target, `${JSON.stringify(makeSbom(packages.all), undefined, 2)}\n`);
  console.log(`The bill of materials (CycloneDX 1.6) is in ${target}`);
}
for (const fault of faults) console.error(fault);
console.log(faults.length === 0 ? "No faults" : `${faults.length} faults`);
process.exitCode = faults.length === 0 ? 0 : 1;
