/** The house plan: rooms, who may import whom, how long a file may be, and where a runtime may be named. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const sources = ["shared", "api", "worker"].flatMap((top) =>
  readdirSync(join(root, top), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => join(top, name)),
);
const text = new Map(sources.map((file) => [file, readFileSync(join(root, file), "utf8")]));

/** Rooms from the ground up: a room may import the rooms listed, and itself. Longer prefixes win. */
const ROOMS: Record<string, string[]> = {
  "shared/contract": [],
  "shared/time.ts": ["shared/contract"],
  "shared/run.ts": ["shared/contract"],
  "shared/settings.ts": ["shared/contract"],
  "shared/config.ts": ["shared/contract", "shared/settings.ts"],
  "shared/telemetry": ["shared/contract", "shared/config.ts", "shared/time.ts"],
  "shared/egress.ts": ["shared/contract", "shared/time.ts"],
  "shared/store": ["shared/contract", "shared/telemetry", "shared/config.ts", "shared/time.ts"],
  "shared/mail": ["shared/contract", "shared/telemetry", "shared/time.ts", "shared/egress.ts"],
  "shared/queue": ["shared/contract", "shared/store", "shared/time.ts", "shared/run.ts"],
  "shared/backends.ts": [
    "shared/contract",
    "shared/telemetry",
    "shared/config.ts",
    "shared/time.ts",
    "shared/store",
    "shared/queue",
  ],
  "shared/node.ts": [
    "shared/contract",
    "shared/telemetry",
    "shared/config.ts",
    "shared/time.ts",
    "shared/egress.ts",
    "shared/store",
    "shared/mail",
    "shared/backends.ts",
  ],
  "shared/nodes": ["shared/contract", "shared/time.ts", "shared/run.ts", "shared/store", "shared/node.ts"],
  "worker/endpoint": ["shared"],
  "api/lease": ["shared"],
  worker: ["shared", "worker/endpoint"],
  api: ["shared", "api/lease"],
  "api/main.ts": ["shared", "api", "worker/tasks/dispatch.ts"],
};

const roomOf = (file: string) =>
  Object.keys(ROOMS)
    .filter((room) => file === room || file.startsWith(`${room}/`))
    .toSorted((a, b) => b.length - a.length)[0];

type Import = { from: string; to: string; typeOnly: boolean };
const imports: Import[] = [...text].flatMap(([from, code]) =>
  [...code.matchAll(/^(?:import|export)\s+(type\s)?[^;]*?from\s+"([^"]+)"|import\("([^"]+)"\)/gm)].map((match) => {
    const target = match[2] ?? match[3] ?? "";
    return {
      from,
      to: target.startsWith(".") ? normalize(join(dirname(from), target)) : target,
      typeOnly: Boolean(match[1]),
    };
  }),
);
const internal = imports.filter(({ to }) => text.has(to));

describe("architecture", () => {
  test("every file has a room, and imports only the rooms below its own", () => {
    const wrong = internal.filter(({ from, to }) => {
      const room = roomOf(from) ?? "";
      const own = to === room || to.startsWith(`${room}/`);
      return !own && !(ROOMS[room] ?? []).some((allowed) => to === allowed || to.startsWith(`${allowed}/`));
    });
    assert.deepEqual(
      sources.filter((file) => !roomOf(file)),
      [],
    );
    assert.deepEqual(
      wrong.map(({ from, to }) => `${from} -> ${to}`),
      [],
    );
  });

  test("the contract imports valibot and nothing else", () => {
    const outside = imports.filter(
      ({ from, to }) => from.startsWith("shared/contract/") && !to.startsWith("shared/contract/"),
    );
    assert.deepEqual(
      outside.filter(({ to }) => to !== "valibot").map(({ from, to }) => `${from} -> ${to}`),
      [],
    );
  });

  test("no import cycles", () => {
    const next = new Map(
      sources.map((file) => [file, internal.filter((i) => i.from === file && !i.typeOnly).map((i) => i.to)]),
    );
    const cycles: string[] = [];
    const visit = (file: string, path: string[]) => {
      if (path.includes(file)) return cycles.push([...path.slice(path.indexOf(file)), file].join(" -> "));
      for (const target of next.get(file) ?? []) visit(target, [...path, file]);
      next.set(file, []);
      return undefined;
    };
    for (const file of sources) visit(file, []);
    assert.deepEqual(cycles, []);
  });

  test("no file is longer than 300 lines", () => {
    const long = [...text]
      .map(([file, code]) => ({ file, lines: code.split("\n").length - 1 }))
      .filter(({ lines }) => lines > 300);
    assert.deepEqual(long, []);
  });

  test("every file says in its first lines what it is for", () => {
    assert.deepEqual(
      [...text].filter(([, code]) => !/^(#![^\n]*\n)?\/\*\*/.test(code)).map(([file]) => file),
      [],
    );
  });

  test("what lives in shared/ has a user outside it or serves a room that has", () => {
    const used = new Set(internal.filter(({ from }) => !from.startsWith("shared/")).map(({ to }) => to));
    const pending = [...used];
    for (let file = pending.pop(); file; file = pending.pop()) {
      for (const { to } of internal.filter((i) => i.from === file)) {
        if (!used.has(to)) pending.push(to);
        used.add(to);
      }
    }
    assert.deepEqual(
      sources.filter((file) => file.startsWith("shared/") && !used.has(file) && !/(-thread|\.d)\.ts$/.test(file)),
      [],
    );
  });

  test("no drawers, no barrels, no default exports, no any", () => {
    assert.deepEqual(
      sources.filter((file) => /(^|\/)(utils?|helpers?|common|types|lib|index)\.ts$/.test(file)),
      [],
    );
    assert.deepEqual(
      [...text]
        .filter(([, code]) => /^export default|\bas any\b|: any\b|@ts-ignore|@ts-expect-error/m.test(code))
        .map(([file]) => file),
      [],
    );
  });

  test("Bun and Deno are named in the serve file only", () => {
    const naming = [...text].filter(([, code]) =>
      /\b(Bun|Deno)\s*[.?]|globalThis\.(Bun|Deno)|"(Bun|Deno)" in/.test(withoutComments(code)),
    );
    assert.deepEqual(
      naming.map(([file]) => file).filter((file) => file !== "api/http/server.ts"),
      [],
    );
  });
});

function withoutComments(code: string): string {
  return code.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");
}
