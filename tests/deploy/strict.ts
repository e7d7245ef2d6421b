/** Checks manifests as the API server would: by the types of Kubernetes itself, where the compiler refuses what they do not have. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Found, ROOT } from "./manifests.ts";

const MODULES: Record<string, string> = {
  v1: "kubernetes-types/core/v1",
  "apps/v1": "kubernetes-types/apps/v1",
  "networking.k8s.io/v1": "kubernetes-types/networking/v1",
  "policy/v1": "kubernetes-types/policy/v1",
  "autoscaling/v2": "kubernetes-types/autoscaling/v2",
  "monitoring.coreos.com/v1": "custom",
  "keda.sh/v1alpha1": "custom",
};

/** What is wrong: unknown members, wrong types, required members that are missing. A patch may leave out whatever it likes. */
export function strictErrors(found: readonly Found[]): string[] {
  const unknown = found.filter(({ manifest }) => !MODULES[manifest.apiVersion]);
  if (unknown.length > 0) return unknown.map(({ file, manifest }) => `${file}: unknown ${manifest.apiVersion}`);
  const folder = mkdtempSync(join(tmpdir(), "strict-"));
  try {
    writeFileSync(join(folder, "manifests.ts"), found.map(checked).join("\n"));
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify(configuration()));
    const done = spawnSync(join(ROOT, "node_modules/.bin/tsc"), ["-p", folder, "--pretty", "false"], {
      encoding: "utf8",
      timeout: 60_000,
    });
    if (done.error) throw done.error;
    return done.stdout
      .split("\n")
      .filter(Boolean)
      .map((line) => traced(line, found));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** One line for each document, so that the line of an error tells which it is. */
function checked({ manifest, patch }: Found, index: number): string {
  const name = `import("${MODULES[manifest.apiVersion]}").${manifest.kind}`;
  const type = patch ? `Parts<${name}>` : name;
  const parts = "type Parts<T> = T extends object ? { [K in keyof T]?: Parts<T[K]> } : T; ";
  return `${index === 0 ? parts : ""}export const one${index}: ${type} = ${JSON.stringify(manifest)};`;
}

function configuration(): object {
  const paths = {
    "kubernetes-types/*": [join(ROOT, "node_modules/kubernetes-types/*")],
    custom: [join(ROOT, "tests/deploy/custom.ts")],
  };
  return {
    compilerOptions: {
      strict: true,
      noEmit: true,
      skipLibCheck: true,
      module: "esnext",
      moduleResolution: "bundler",
      types: [],
      paths,
      allowImportingTsExtensions: true,
    },
    files: ["manifests.ts"],
  };
}

function traced(line: string, found: readonly Found[]): string {
  const at = Number(/manifests\.ts\((\d+),/.exec(line)?.[1] ?? 0);
  const one = found[at - 1];
  return one
    ? `${one.file} ${one.manifest.kind}/${one.manifest.metadata.name}: ${line.replace(/^.*?error /, "")}`
    : line;
}
