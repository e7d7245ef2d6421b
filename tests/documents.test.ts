/** The documents: short enough to be read, and true where a program can tell (files, commands, settings, facts and links exist). */
import assert from "node:assert/strict";
import { globSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { createApp } from "../api/app.ts";
import type { ApiDeps } from "../api/deps.ts";
import manifest from "../package.json" with { type: "json" };
import { readConfig } from "../shared/config.ts";
import { RENAMED_SETTINGS, SECRET_SETTINGS, SETTINGS } from "../shared/settings.ts";
import { factStream } from "../shared/telemetry/events.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const IGNORED = new Set(["node_modules", ".git", "data"]);
const documents = new Map(listDocuments(".").map((path) => [path, readFileSync(join(root, path), "utf8")]));
const facts = new Set(
  [...readFileSync(join(root, "shared/telemetry/events.ts"), "utf8").matchAll(/kind: "([^"]+)"/g)].map(
    ([, kind]) => kind,
  ),
);

const LONGEST: Record<string, number> = { "README.md": 140, "ARCHITECTURE.md": 150 };
const LONGEST_CELL = 200;
/** Names that look like settings and belong to others. */
const FOREIGN_SETTINGS = new Set(["NODE_EXTRA_CA_CERTS", "BUILD_IMAGE", "BASE_IMAGE"]);

function listDocuments(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = normalize(join(folder, entry.name));
    if (entry.isDirectory()) return IGNORED.has(entry.name) ? [] : listDocuments(path);
    return entry.name.endsWith(".md") ? [path] : [];
  });
}

/** Every finding of `find` in every document, as `document: finding`. */
function findings(find: (text: string, path: string) => string[]): string[] {
  return [...documents].flatMap(([path, text]) => find(text, path).map((one) => `${path}: ${one}`));
}

const withoutFences = (text: string) => text.replaceAll(/^```[^]*?^```$/gm, "");
const fences = (text: string) => [...text.matchAll(/^```sh\n([^]*?)^```$/gm)].map(([, code = ""]) => code);
const codeSpans = (text: string) => [...withoutFences(text).matchAll(/`([^`\n]+)`/g)].map(([, code = ""]) => code);
/** Every span and every shell block: what may hold commands and paths of the API. */
const commands = (text: string) => [...codeSpans(text), ...fences(text)];

/** True for a file or a folder under one of these folders; the name may hold `*` and `{a,b}`. */
const exists = (name: string, folders: string[]) =>
  folders.some((folder) => globSync(normalize(join(folder, name)), { cwd: root }).length > 0);

/** The anchor that GitHub gives a heading. */
const anchorOf = (heading: string) =>
  heading
    .trim()
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\s_-]/gu, "")
    .replaceAll(" ", "-");
const anchorsOf = (text: string) =>
  [...withoutFences(text).matchAll(/^#+ (.+)$/gm)].map(([, one = ""]) => anchorOf(one));

const isPath = (word: string) =>
  /^[\w.@{},*-]+(\/[\w.@{},*-]+)*\.(ts|md|sh|svg|json|yaml|yml)$/.test(word) ||
  /^(api|worker|shared|tests|docs|k8s|compose)\/[\w./{},*-]*$/.test(word);

describe("documents", () => {
  for (const [path, most] of Object.entries(LONGEST)) {
    test(`${path} has at most ${most} lines`, () => {
      const lines = (documents.get(path) ?? "").split("\n").length - 1;
      assert.ok(lines > 0 && lines <= most, `it has ${lines} lines`);
    });
  }

  test(`no cell of a table is longer than ${LONGEST_CELL} characters`, () => {
    const long = findings((text) =>
      withoutFences(text)
        .split("\n")
        .filter((line) => line.startsWith("|"))
        .flatMap((line) => line.split(/(?<!\\)\|/).map((cell) => cell.trim()))
        .filter((cell) => cell.length > LONGEST_CELL && !/^:?-+:?$/.test(cell)),
    );
    assert.deepEqual(long, []);
  });

  test("every file and folder that a document names exists", () => {
    const missing = findings((text, path) =>
      codeSpans(text)
        .flatMap((span) => span.split(/\s+/))
        .filter(isPath)
        .filter((name) => !exists(name, [".", dirname(path)])),
    );
    assert.deepEqual(missing, []);
  });

  test("every folder that the table of a room names exists in that room", () => {
    const missing = findings((text, path) =>
      [...text.matchAll(/^\| `([\w-]+\/)` /gm)]
        .map(([, name = ""]) => name)
        .filter((name) => !exists(name, [dirname(path)])),
    );
    assert.deepEqual(missing, []);
  });

  test("every command that a document names exists", () => {
    const missing = findings((text) =>
      commands(text)
        .flatMap((code) => [...code.matchAll(/\bbun(?:@[\d.]+)? run ([\w-]+)/g)].map(([, name = ""]) => name))
        .filter((name) => !(name in manifest.scripts)),
    );
    assert.deepEqual(missing, []);
  });

  test("the Bun that a document names is the one that the project is tested with", () => {
    const others = findings((text) =>
      [...text.matchAll(/bun@([\d.]+\d)/g)]
        .map(([, version = ""]) => version)
        .filter((version) => version !== manifest.devDependencies.bun),
    );
    assert.deepEqual(others, []);
  });

  test("every setting that a document names exists", () => {
    const unknown = findings((text, path) =>
      path === "CHANGELOG.md"
        ? []
        : codeSpans(text)
            .flatMap((span) => span.match(/^[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+(?==|$)/g) ?? [])
            .filter((name) => !SECRET_SETTINGS.some((secret) => name === `${secret}_FILE`))
            .filter((name) => !(name in SETTINGS) && !(name in RENAMED_SETTINGS) && !FOREIGN_SETTINGS.has(name)),
    );
    assert.deepEqual(unknown, []);
  });

  test("every fact that a document names exists", () => {
    const kinds = /^(mailbox|mail|send|endpoint|task|queue|creatio)\.(?!ts$)[a-z_]+$/;
    const unknown = findings((text, path) =>
      path === "CHANGELOG.md" ? [] : codeSpans(text).filter((span) => kinds.test(span) && !facts.has(span)),
    );
    assert.deepEqual(unknown, []);
  });

  test("every path of the API that a document names is served", () => {
    // Only the routes are read here; no request is made.
    const deps = { config: readConfig({}), version: "0", facts: factStream(), store: {} } as ApiDeps;
    const served = createApp(deps, new AbortController().signal).routes.map(({ method, path }) => ({ method, path }));
    const isServed = (method: string | undefined, path: string) =>
      served.some(
        (route) =>
          (method === undefined || route.method === method) &&
          route.path.replaceAll(/:\w+/g, "{}") === path.replaceAll(/\{\w+\}/g, "{}"),
      );
    const missing = findings((text) =>
      commands(text).flatMap((code) =>
        [
          ...code.matchAll(
            /(?:\b(GET|POST|PUT|PATCH|DELETE) +)?(?:https?:[^ ]*)?(\/(?:api\/v1\/[\w/{}-]+|healthz|readyz|metrics|docs))(?![\w-])/g,
          ),
        ]
          .filter(([, method, path = ""]) => !isServed(method, path.replace(/\/$/, "")))
          .map(([found]) => found),
      ),
    );
    assert.deepEqual(missing, []);
  });

  test("every link inside the project leads to a file, and to a heading where it names one", () => {
    const broken = findings((text, path) =>
      [...withoutFences(text).matchAll(/\]\(([^)\s]+)\)/g)]
        .map(([, target = ""]) => target)
        .filter((target) => !/^[a-z]+:/i.test(target))
        .filter((target) => {
          const [file = "", anchor] = target.split("#");
          const linked = file === "" ? path : normalize(join(dirname(path), file));
          if (!exists(linked, ["."])) return true;
          return anchor !== undefined && !anchorsOf(documents.get(linked) ?? "").includes(anchor);
        }),
    );
    assert.deepEqual(broken, []);
  });

  test("the rooms' pages are linked from ARCHITECTURE.md", () => {
    const architecture = documents.get("ARCHITECTURE.md") ?? "";
    const pages = [...documents.keys()].filter((path) => /^(api|worker|shared)\/.*README\.md$/.test(path));
    assert.deepEqual(
      pages.filter((path) => !architecture.includes(`(${path})`)),
      [],
    );
    assert.ok(pages.length > 0);
  });
});
