/** The house plan: rooms, who may import whom, how large a file, a function and a folder may be, and where a runtime may be named. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
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

const LONGEST_FILE = 300;
const LONGEST_FUNCTION = 75;
const MOST_FILES = 20;

const GROUND = ["shared/contract", "shared/places.ts", "shared/time.ts", "shared/run.ts", "shared/concurrency"];
const MAIL = [...GROUND, "shared/evidence", "shared/egress.ts", "shared/telemetry", "shared/mail"];
const NET = ["shared/mail/net", "shared/mail/oauth"];
/** HTTP to a mail server, with the logins for it. */
const WEB = [...NET, "shared/mail/http"];
const EWS = "shared/mail/ews";
const GRAPH = "shared/mail/graph";

/**
 * Rooms from the ground up. A room may import the rooms it lists, each of them earlier in the table, and itself. The longest prefix
 * of a path names its room, so a room in a list does not stand for the rooms inside it; `name/*` stands for it and all of them.
 */
const ROOMS: Record<string, string[]> = {
  "shared/contract": [],
  "shared/places.ts": ["shared/contract"],
  "shared/time.ts": ["shared/contract"],
  "shared/run.ts": ["shared/contract", "shared/time.ts"],
  "shared/concurrency": ["shared/contract", "shared/time.ts"],
  "shared/egress": ["shared/contract"],
  "shared/setting-schemas.ts": ["shared/contract", "shared/egress"],
  "shared/settings": ["shared/contract", "shared/setting-schemas.ts"],
  "shared/settings.ts": ["shared/contract", "shared/setting-schemas.ts", "shared/settings"],
  "shared/nearest.ts": [],
  "shared/rendezvous.ts": [],
  "shared/setting-warnings.ts": ["shared/nearest.ts", "shared/settings.ts"],
  "shared/private-files.ts": [],
  "shared/config.ts": ["shared/contract", "shared/settings.ts", "shared/private-files.ts"],
  "shared/evidence": ["shared/contract"],
  "shared/egress.ts": [...GROUND, "shared/egress"],
  "shared/telemetry": [...GROUND, "shared/config.ts"],
  "shared/store": [...GROUND, "shared/private-files.ts", "shared/config.ts", "shared/telemetry"],
  "shared/store/memory": [...GROUND, "shared/store"],
  "shared/store/sqlite": [
    ...GROUND,
    "shared/private-files.ts",
    "shared/telemetry",
    "shared/store",
    "shared/store/memory",
  ],
  "shared/store/redis/connection": [...GROUND, "shared/config.ts", "shared/telemetry", "shared/store"],
  "shared/store/redis": [
    ...GROUND,
    "shared/config.ts",
    "shared/telemetry",
    "shared/store",
    "shared/store/redis/connection",
  ],
  "shared/mail": [...GROUND, "shared/evidence", "shared/egress.ts", "shared/telemetry"],
  "shared/mail/mime": ["shared/contract", "shared/concurrency"],
  "shared/mail/oauth": MAIL,
  "shared/mail/net": [...MAIL, "shared/mail/oauth"],
  "shared/endpoint-head.ts": ["shared/contract", "shared/egress.ts", "shared/mail/net"],
  "shared/mail/http": [...MAIL, "shared/mail/net"],
  "shared/mail/preflight-steps.ts": [...MAIL, ...NET],
  "shared/mail/imap": [...MAIL, ...NET, "shared/mail/preflight-steps.ts"],
  "shared/mail/pop3": [...MAIL, ...NET, "shared/mail/preflight-steps.ts", "shared/mail/mime"],
  "shared/mail/smtp": [...MAIL, ...NET],
  "shared/mail/exchange": [...MAIL, "shared/mail/mime", "shared/mail/smtp"],
  [`${EWS}/soap`]: [...MAIL, ...WEB],
  [`${EWS}/transport`]: [...MAIL, ...WEB, `${EWS}/soap`],
  [`${EWS}/service-url.ts`]: ["shared/contract", "shared/time.ts"],
  [`${EWS}/account.ts`]: [...MAIL, "shared/mail/http", `${EWS}/soap`, `${EWS}/transport`, `${EWS}/service-url.ts`],
  [`${EWS}/autodiscover`]: [
    ...MAIL,
    "shared/mail/http",
    `${EWS}/soap`,
    `${EWS}/transport`,
    `${EWS}/service-url.ts`,
    `${EWS}/account.ts`,
  ],
  [`${EWS}/client`]: [
    ...MAIL,
    ...WEB,
    `${EWS}/soap`,
    `${EWS}/transport`,
    `${EWS}/service-url.ts`,
    `${EWS}/account.ts`,
    `${EWS}/autodiscover`,
  ],
  [`${EWS}/notifications`]: [...MAIL, `${EWS}/soap`, `${EWS}/client`],
  [`${EWS}/sending`]: [
    ...MAIL,
    "shared/mail/http",
    "shared/mail/smtp",
    "shared/mail/exchange",
    `${EWS}/soap`,
    `${EWS}/client`,
  ],
  [`${EWS}/sync`]: [...MAIL, "shared/mail/exchange", `${EWS}/soap`, `${EWS}/client`, `${EWS}/notifications`],
  [`${EWS}/items`]: [...MAIL, "shared/mail/net", `${EWS}/soap`, `${EWS}/client`, `${EWS}/sync`],
  [EWS]: [...MAIL, ...NET, "shared/mail/preflight-steps.ts", `${EWS}/*`],
  "shared/mail/discovery": [
    ...MAIL,
    ...WEB,
    `${EWS}/soap`,
    `${EWS}/transport`,
    `${EWS}/account.ts`,
    `${EWS}/autodiscover`,
  ],
  [`${GRAPH}/client`]: [...MAIL, ...WEB, "shared/mail/exchange"],
  [`${GRAPH}/notifications`]: [...MAIL, `${GRAPH}/client`],
  [`${GRAPH}/sync`]: [...MAIL, "shared/mail/exchange", `${GRAPH}/client`, `${GRAPH}/notifications`],
  [`${GRAPH}/items`]: [...MAIL, ...WEB, `${GRAPH}/client`],
  [`${GRAPH}/sending`]: [
    ...MAIL,
    "shared/mail/mime",
    "shared/mail/http",
    "shared/mail/smtp",
    "shared/mail/exchange",
    `${GRAPH}/client`,
  ],
  [GRAPH]: [...MAIL, ...NET, "shared/mail/exchange", "shared/mail/preflight-steps.ts", `${GRAPH}/*`],
  "shared/mail/sending.ts": ["shared/*"],
  "shared/mail/open.ts": ["shared/*"],
  "shared/queue": [...GROUND, "shared/evidence", "shared/rendezvous.ts"],
  "shared/queue/sqlite": [...GROUND, "shared/store/sqlite", "shared/queue"],
  "shared/queue/redis": [
    ...GROUND,
    "shared/store",
    "shared/store/redis",
    "shared/store/redis/connection",
    "shared/queue",
  ],
  "shared/queue/rabbitmq": [...GROUND, "shared/evidence", "shared/queue"],
  "shared/readiness.ts": [...GROUND, "shared/telemetry"],
  "shared/backends.ts": ["shared/*"],
  "shared/served-mailboxes.ts": ["shared/*"],
  "shared/record": [...GROUND, "shared/evidence", "shared/mail/net", "shared/store", "shared/telemetry"],
  "shared/node.ts": ["shared/*"],
  "shared/nodes": ["shared/*"],
  "worker/shares": ["shared/*"],
  "worker/endpoint": ["shared/*", "worker/shares"],
  "worker/endpoint/creatio": ["shared/*", "worker/endpoint"],
  "worker/endpoint/dialect.ts": ["shared/*", "worker/endpoint", "worker/endpoint/creatio"],
  "worker/mail": ["shared/*", "worker/shares"],
  "worker/delivery": ["shared/*", "worker/shares", "worker/mail", "worker/endpoint/*"],
  "worker/alarms.ts": ["shared/*", "worker/endpoint/*"],
  "worker/test-post.ts": ["shared/*", "worker/endpoint/*"],
  "worker/crm.ts": ["shared/*", "worker/endpoint/*"],
  "worker/tasks": [
    "shared/*",
    "worker/shares",
    "worker/mail",
    "worker/delivery",
    "worker/endpoint/*",
    "worker/crm.ts",
    "worker/alarms.ts",
    "worker/test-post.ts",
  ],
  worker: ["shared/*", "worker/*"],
  "api/lease": ["shared/*"],
  "api/listen": ["shared/*", "api/lease"],
  "api/http": ["shared/*"],
  "api/records/connection.ts": ["shared/*"],
  api: ["shared/*", "api/lease", "api/listen", "api/http", "api/records/connection.ts"],
  "api/checks": ["shared/*", "api", "api/http"],
  "api/alarms": ["shared/*", "api", "api/http", "api/checks"],
  "api/endpoints": ["shared/*", "api", "api/http"],
  "api/pages": ["shared/*", "api", "api/http"],
  "api/pages/console": [
    "shared/*",
    "api",
    "api/http",
    "api/checks",
    "api/alarms",
    "api/endpoints",
    "api/pages",
    "api/records/connection.ts",
  ],
  "api/bulk": ["shared/*", "api", "api/http", "api/pages/console"],
  "api/records": ["shared/*", "api", "api/http"],
  "api/consent": ["shared/*", "api", "api/http", "api/pages"],
  "api/routes": [
    "shared/*",
    "api",
    "api/http",
    "api/checks",
    "api/alarms",
    "api/pages",
    "api/consent",
    "api/records/connection.ts",
  ],
  "api/routes/creatio": ["shared/*", "api", "api/http", "api/routes"],
  "api/routes/console": [
    "shared/*",
    "api",
    "api/http",
    "api/checks",
    "api/alarms",
    "api/pages",
    "api/pages/console",
    "api/consent",
    "api/bulk",
    "api/endpoints",
    "api/records",
    "api/records/connection.ts",
    "api/routes",
  ],
  "api/pages/console/actions": [
    "shared/*",
    "api",
    "api/http",
    "api/pages",
    "api/pages/console",
    "api/bulk",
    "api/endpoints",
  ],
  "api/routes/console/actions": [
    "shared/*",
    "api",
    "api/http",
    "api/pages/console",
    "api/pages/console/actions",
    "api/bulk",
    "api/endpoints",
    "api/records",
    "api/routes",
    "api/routes/console",
  ],
  "api/routes/console/routes.ts": [
    "shared/*",
    "api",
    "api/http",
    "api/pages/console",
    "api/routes/console",
    "api/routes/console/actions",
  ],
  "api/app.ts": ["shared/*", "api/*"],
  "api/cli": ["shared/*", "api"],
  "api/main.ts": ["shared/*", "api/*", "worker/tasks"],
};

const rooms = Object.keys(ROOMS);
const roomOf = (file: string) =>
  rooms.filter((room) => file === room || file.startsWith(`${room}/`)).toSorted((a, b) => b.length - a.length)[0];
const isAllowed = (room: string, target: string) =>
  room === target ||
  (ROOMS[room] ?? []).some((one) => (one.endsWith("/*") ? `${target}/`.startsWith(one.slice(0, -1)) : one === target));

type Import = { from: string; to: string };
/** Every import, of types too, and every thread that a file starts. */
const imports: Import[] = [...text].flatMap(([from, code]) =>
  [
    ...code.matchAll(
      /^(?:import|export)\s(?:[^;]*?\sfrom\s+)?"([^"]+)"|(?:\bimport\(|new Worker\(new URL\()"([^"]+)"/gm,
    ),
  ].map((match) => {
    const target = match[1] ?? match[2] ?? "";
    return { from, to: target.startsWith(".") ? normalize(join(dirname(from), target)) : target };
  }),
);
const internal = imports.filter(({ to }) => text.has(to));

describe("architecture", () => {
  test("every file has a room, and imports only the rooms below its own", () => {
    assert.deepEqual(
      sources.filter((file) => !roomOf(file)),
      [],
    );
    const wrong = internal.filter(({ from, to }) => !isAllowed(roomOf(from) ?? "", roomOf(to) ?? ""));
    assert.deepEqual(
      wrong.map(({ from, to }) => `${from} -> ${to}`),
      [],
    );
  });

  test("the rooms' table runs one way", () => {
    const against = internal
      .map(({ from, to }) => [roomOf(from) ?? "", roomOf(to) ?? ""] as const)
      .filter(([from, to]) => rooms.indexOf(to) > rooms.indexOf(from));
    assert.deepEqual([...new Set(against.map((pair) => pair.join(" -> ")))], []);
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

  test("no import cycles, not even of types", () => {
    const next = new Map(sources.map((file) => [file, internal.filter((i) => i.from === file).map((i) => i.to)]));
    const done = new Set<string>();
    const cycles: string[] = [];
    const visit = (file: string, path: string[]) => {
      if (path.includes(file)) return cycles.push([...path.slice(path.indexOf(file)), file].join(" -> "));
      if (done.has(file)) return undefined;
      for (const target of next.get(file) ?? []) visit(target, [...path, file]);
      done.add(file);
      return undefined;
    };
    for (const file of sources) visit(file, []);
    assert.deepEqual(cycles, []);
  });

  test(`no file is longer than ${LONGEST_FILE} lines`, () => {
    const long = [...text]
      .map(([file, code]) => ({ file, lines: code.split("\n").length - 1 }))
      .filter(({ lines }) => lines > LONGEST_FILE);
    assert.deepEqual(long, []);
  });

  test(`no function is longer than ${LONGEST_FUNCTION} lines`, () => {
    const { stdout, error } = spawnSync(
      join(root, "node_modules/.bin/oxlint"),
      ["--config=tests/tools/long-functions.json", "--format=unix", "api", "shared", "worker"],
      { cwd: root, encoding: "utf8", timeout: 60_000 },
    );
    assert.ifError(error);
    assert.deepEqual(
      stdout.split("\n").filter((line) => line.includes("max-lines-per-function")),
      [],
    );
    assert.match(stdout, /^\d+ problems?$|^$/m, stdout);
  });

  test(`no folder holds more than ${MOST_FILES} files`, () => {
    const counts = Map.groupBy(sources, dirname);
    assert.deepEqual(
      [...counts].filter(([, files]) => files.length > MOST_FILES).map(([folder, files]) => [folder, files.length]),
      [],
    );
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
      sources.filter((file) => file.startsWith("shared/") && !used.has(file) && !file.endsWith(".d.ts")),
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

  test("the time of day comes from the clock of shared/time.ts, which tests can move", () => {
    const reading = [...text].filter(([, code]) => /\bDate\.now\b/.test(withoutComments(code))).map(([file]) => file);
    assert.deepEqual(
      reading.filter((file) => file !== "shared/time.ts" && !file.startsWith("shared/contract/")),
      [],
    );
  });
});

function withoutComments(code: string): string {
  return code.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");
}
