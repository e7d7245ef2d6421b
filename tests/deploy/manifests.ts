/** The manifests as they lie in `k8s/`: every file's documents, read strictly, and which kustomization names which file. */
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, normalize, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseAllDocuments, parseDocument } from "yaml";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** A document of a manifest; what is in it is checked by its kind. */
export type Manifest = { apiVersion: string; kind: string; metadata: { name: string; labels?: any }; spec?: any };
export type Found = { file: string; patch: boolean; manifest: Manifest };
export type Kustomization = { file: string; folder: string; content: any };

/** All YAML documents of a file; throws on whatever a strict reader warns of (a key given twice, an unknown tag). */
export function documentsOf(file: string): any[] {
  return read(readFileSync(join(ROOT, file), "utf8"), file);
}

function read(text: string, file: string): any[] {
  const documents = parseAllDocuments(text, { strict: true, uniqueKeys: true });
  if (!Array.isArray(documents)) return [];
  return documents.map((one) => {
    const [wrong] = [...one.errors, ...one.warnings];
    if (wrong) throw new Error(`${file}: ${wrong.message}`);
    return one.toJS({ maxAliasCount: 100 });
  });
}

/** A single document with its anchors and merges resolved. */
export function documentOf(file: string): any {
  const document = parseDocument(readFileSync(join(ROOT, file), "utf8"), { merge: true, uniqueKeys: true });
  const [wrong] = [...document.errors, ...document.warnings];
  if (wrong) throw new Error(`${file}: ${wrong.message}`);
  return document.toJS();
}

/** Files below a folder, by how their names end. */
export function filesIn(folder: string, ...ends: string[]): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => ends.some((end) => name.endsWith(end)))
    .map((name) => join(folder, name))
    .toSorted();
}

export function kustomizations(): Kustomization[] {
  return filesIn("k8s", "kustomization.yaml").map((file) => ({
    file,
    folder: dirname(file),
    content: documentsOf(file)[0],
  }));
}

/** Paths that a kustomization names, from the root of the project. */
export function namedBy({ folder, content }: Kustomization): {
  resources: string[];
  patches: string[];
  parts: string[];
} {
  const under = (list: string[] = []) => list.map((path) => normalize(join(folder, path)));
  const named: string[] = content.resources ?? [];
  const patches: { path?: string }[] = content.patches ?? [];
  return {
    resources: under(named.filter((path) => path.endsWith(".yaml"))),
    patches: under(patches.flatMap(({ path }) => path ?? [])),
    parts: under([...named.filter((path) => !path.endsWith(".yaml")), ...(content.components ?? [])]),
  };
}

/** Every document that a kustomization takes up, patches among them. */
export function manifests(): Found[] {
  return kustomizations().flatMap((one) => {
    const { resources, patches } = namedBy(one);
    return [...from(resources, false), ...from(patches, true)];
  });
}

function from(files: string[], patch: boolean): Found[] {
  return files.flatMap((file) => documentsOf(file).map((manifest) => ({ file, patch, manifest })));
}

/** A variation of the production overlay: what is replaced in its kustomization, which must be there. */
export type Variation = readonly (readonly [from: string, to: string])[];

/** The production overlay with these changes, as kustomize renders it; undefined where there is no kustomize. */
export function renderVariation(variation: Variation): Found[] | undefined {
  return withCopy((renderer, copy) => {
    const file = join(copy, "overlays/production/kustomization.yaml");
    let text = readFileSync(file, "utf8");
    for (const [old, changed] of variation) {
      if (!text.includes(old)) throw new Error(`The overlay has no ${old}`);
      text = text.replace(old, () => changed);
    }
    writeFileSync(file, text);
    return renderedBy(renderer, copy, "overlays/production");
  });
}

/** The overlays as kustomize renders them, with the example's secrets; none where neither kubectl nor kustomize is at hand. */
export function rendered(): Found[] {
  const overlays = ["dev", "production", "hosted"];
  return withCopy((renderer, copy) => overlays.flatMap((name) => renderedBy(renderer, copy, `overlays/${name}`))) ?? [];
}

function withCopy(work: (renderer: string[], copy: string) => Found[]): Found[] | undefined {
  const renderer = [
    ["kubectl", "kustomize"],
    ["kustomize", "build"],
  ].find(([program = "", verb = ""]) => spawnSync(program, [verb, "--help"], { timeout: 10_000 }).status === 0);
  if (!renderer) return undefined;
  const copy = mkdtempSync(join(tmpdir(), "manifests-"));
  try {
    cpSync(join(ROOT, "k8s"), copy, { recursive: true });
    const production = join(copy, "overlays/production");
    copyFileSync(join(production, "secret.env.example"), join(production, "secret.env"));
    return work(renderer, copy);
  } finally {
    rmSync(copy, { recursive: true });
  }
}

function renderedBy([program = "", verb = ""]: string[], copy: string, overlay: string): Found[] {
  const done = spawnSync(program, [verb, join(copy, overlay)], { encoding: "utf8", timeout: 20_000 });
  if (done.status !== 0) throw new Error(`${overlay} cannot be rendered: ${done.stderr}`);
  return read(done.stdout, overlay).map((manifest): Found => ({ file: `rendered ${overlay}`, patch: false, manifest }));
}

/** Whether this path is there. */
export function exists(path: string): boolean {
  return existsSync(join(ROOT, path));
}

/** Every YAML file below k8s/ that no kustomization takes up. */
export function orphans(): string[] {
  const named = new Set(kustomizations().flatMap((one) => Object.values(namedBy(one)).flat()));
  const others = kustomizations().flatMap(({ folder, content }) =>
    (content.configurations ?? []).map((path: string) => join(folder, path)),
  );
  return filesIn("k8s", ".yaml", ".yml")
    .filter((file) => !file.endsWith("kustomization.yaml") && !file.endsWith("values.yaml"))
    .filter((file) => !named.has(file) && !others.includes(relative(".", file)));
}
