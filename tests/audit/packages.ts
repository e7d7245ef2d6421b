/** The packages of bun.lock, and what each installed one says about itself. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";

const Names = v.optional(v.record(v.string(), v.string()), {});
const Dependencies = v.object({
  dependencies: Names,
  optionalDependencies: Names,
  peerDependencies: Names,
  optionalPeers: v.optional(v.array(v.string()), []),
});
/** `name@version`, the registry, what it depends on, its SHA-512. */
const LockEntry = v.looseTuple([v.string(), v.string(), Dependencies, v.string()]);
const Lock = v.object({
  workspaces: v.object({ "": v.object({ dependencies: Names, devDependencies: Names }) }),
  packages: v.record(v.string(), LockEntry),
});
const Manifest = v.object({
  version: v.string(),
  license: v.optional(v.unknown()),
  licenses: v.optional(v.unknown()),
  scripts: Names,
});

export type LockedPackage = {
  /** Where it lies: names of packages, each inside the one before it. */
  path: readonly string[];
  name: string;
  version: string;
  /** SHA-512 of the package in base64, as the registry served it. */
  integrity: string;
  /** Whether the service needs it, and not only its development. */
  atRunTime: boolean;
  /** Undefined for a package that is not installed, such as one for another operating system. */
  installed: { version: string; licence: string | undefined; installScripts: string[] } | undefined;
};

export type Packages = { all: LockedPackage[]; runTime: string[]; development: string[] };

/** Reads the lock file and node_modules of this folder. Throws when the lock file has another form. */
export function readPackages(root: string): Packages {
  // bun.lock is JSON with commas after the last entries.
  const text = readFileSync(join(root, "bun.lock"), "utf8").replace(/,(\s*[}\]])/g, "$1");
  const { workspaces, packages } = v.parse(Lock, JSON.parse(text));
  const { dependencies, devDependencies } = workspaces[""];
  const runTimeKeys = findRunTime(Object.keys(dependencies), packages);
  const all = Object.entries(packages).map(([key, [id, , , integrity]]) => {
    const path = splitKey(key);
    const [name, version] = [id.slice(0, id.lastIndexOf("@")), id.slice(id.lastIndexOf("@") + 1)];
    return { path, name, version, integrity, atRunTime: runTimeKeys.has(key), installed: readInstalled(root, path) };
  });
  return { all, runTime: Object.keys(dependencies), development: Object.keys(devDependencies) };
}

type LockEntries = Record<string, v.InferOutput<typeof LockEntry>>;

/** Every package that the run-time dependencies need, however far away. */
function findRunTime(roots: readonly string[], packages: LockEntries): Set<string> {
  const found = new Set<string>();
  const pending = roots.map((name) => ({ from: [] as string[], name }));
  for (let next = pending.pop(); next; next = pending.pop()) {
    const key = resolve(next.from, next.name, packages);
    const entry = key === undefined ? undefined : packages[key];
    if (key === undefined || entry === undefined || found.has(key)) continue;
    found.add(key);
    const { dependencies, optionalDependencies, peerDependencies, optionalPeers } = entry[2];
    const peers = Object.keys(peerDependencies).filter((name) => !optionalPeers.includes(name));
    const names = [...Object.keys(dependencies), ...Object.keys(optionalDependencies), ...peers];
    pending.push(...names.map((name) => ({ from: splitKey(key), name })));
  }
  return found;
}

/** As Node finds a package: inside the one that asks, else inside those around it. */
function resolve(from: readonly string[], name: string, packages: LockEntries): string | undefined {
  for (let depth = from.length; depth >= 0; depth--) {
    const key = [...from.slice(0, depth), name].join("/");
    if (packages[key] !== undefined) return key;
  }
  return undefined;
}

function splitKey(key: string): string[] {
  return key.match(/@[^/]+\/[^/]+|[^/]+/g) ?? [];
}

function readInstalled(root: string, path: readonly string[]): LockedPackage["installed"] {
  const folder = join(root, ...path.flatMap((name) => ["node_modules", name]));
  const file = join(folder, "package.json");
  if (!existsSync(file)) return undefined;
  const { version, license, licenses, scripts } = v.parse(Manifest, JSON.parse(readFileSync(file, "utf8")));
  const installScripts = ["preinstall", "install", "postinstall"].filter((name) => scripts[name] !== undefined);
  // Package managers build it without a script, too.
  if (existsSync(join(folder, "binding.gyp")) && installScripts.length === 0) installScripts.push("binding.gyp");
  return { version, licence: readLicence(license ?? licenses), installScripts };
}

/** The SPDX expression, also of the older forms `{ type }` and `[{ type }, ...]`. */
function readLicence(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (Array.isArray(value)) {
    const each = value.map(readLicence);
    return each.every((one) => one !== undefined) && each.length > 0 ? each.join(" OR ") : undefined;
  }
  if (typeof value === "object" && value !== null && "type" in value) return readLicence(value.type);
  return undefined;
}
