/** The image, the Compose files and the sizing answer, as far as they can be checked without a Docker engine. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import * as lint from "dockerfilelint";
import { ORIGINAL_PRODUCT, REPLICA, computeSizing, totalOf } from "../api/sizing.ts";
import { readConfig } from "../shared/config.ts";
import { Problem } from "../shared/contract/problem.ts";
import { listSettingWarnings } from "../shared/setting-warnings.ts";
import { SETTINGS } from "../shared/settings.ts";
import { type ApiNode, startApi } from "./api-node.ts";
import { documentOf, ROOT } from "./deploy/manifests.ts";

const BUN = join(ROOT, "node_modules/.bin/bun");
const RUNTIME = "deno" in process.versions ? ["run", "-A", "--no-check"] : [];
const text = (file: string) => readFileSync(join(ROOT, file), "utf8");

describe("the image", () => {
  const dockerfile = text("Dockerfile");

  test("passes the linter, but for what the linter does not know", () => {
    const values = Object.fromEntries(
      [...dockerfile.matchAll(/^ARG (\w+)=(\S+)$/gm)].map(([, name, value]) => [name, value]),
    );
    // It knows neither arguments nor digests as images, nor HEALTHCHECK with options.
    const plain = dockerfile
      .replace(/^FROM \S+/gm, "FROM debian:bookworm-slim")
      .replace(/\$\{(\w+)\}/g, (_, name: string) => values[name] ?? name)
      .replace(/^HEALTHCHECK .*$/m, "");
    const issues = lint.run(ROOT, plain).map(({ line, title }) => `${line}: ${title}`);
    assert.deepEqual(issues, []);
  });

  test("needs nothing of the builder that older ones lack, and does not run as root", () => {
    assert.ok(!/^#\s*syntax=|<<[A-Z"']|COPY .*--link|--mount=/m.test(dockerfile));
    const [, stage = ""] = /^FROM \S+ AS service\n([\s\S]*)$/m.exec(dockerfile) ?? [];
    assert.match(stage, /^USER 1000:1000$/m);
    assert.match(stage, /^HEALTHCHECK /m);
    assert.match(stage, /^CMD \["api"\]$/m);
  });

  test("has commands that need no shell, one signal to stop, and a bill of materials of what is in it", () => {
    const [, stage = ""] = /^FROM \S+ AS service\n([\s\S]*)$/m.exec(dockerfile) ?? [];
    assert.doesNotMatch(stage, /#!\/bin\/sh|^(CMD|ENTRYPOINT|HEALTHCHECK[^\n]* CMD) [^[]/m);
    assert.match(stage, /^STOPSIGNAL SIGTERM$/m);
    const linked = [...stage.matchAll(/for command in ([\w ]+); do ln -s \/app\/dist\/(\S+) /g)];
    const commands = linked.flatMap(([, names = "", file = ""]) =>
      names.split(" ").map((name) => file.replace("$command", name)),
    );
    assert.equal(commands.length, 6);
    const directory = mkdtempSync(join(ROOT, "dist-"));
    try {
      const { status } = spawnSync(BUN, [join(ROOT, "tests/tools/bundle.ts"), directory], { stdio: "inherit" });
      assert.equal(status, 0);
      for (const file of commands)
        assert.match(readFileSync(join(directory, file), "utf8"), /^#!\/usr\/local\/bin\/runtime\n/, file);
      const run = (name: string) =>
        spawnSync(process.execPath, [...RUNTIME, join(directory, `api/cli-${name}.js`)], { encoding: "utf8" });
      assert.match(run("keys").stdout, /^k\d{8}-[0-9a-f]+:\S{44}\n$/);
      for (const name of ["backup", "restore"]) assert.match(run(name).stderr, new RegExp(`^Usage: ${name} FILE`));
    } finally {
      rmSync(directory, { recursive: true });
    }
    assert.match(stage, /^COPY --from=packages \/app\/sbom\.cdx\.json /m);
    const made = spawnSync(process.execPath, [...RUNTIME, join(ROOT, "tests/audit/image-sbom.ts")], {
      encoding: "utf8",
    });
    const components = JSON.parse(made.stdout).components.map(({ name }: { name: string }) => name);
    assert.ok(Object.keys(JSON.parse(text("package.json")).dependencies).every((name) => components.includes(name)));
    assert.ok(!components.includes("testcontainers"));
  });

  test("has nothing put into it but the service", () => {
    const [first, ...rest] = text(".dockerignore").trim().split("\n");
    assert.equal(first, "*");
    assert.deepEqual(rest.toSorted(), [
      "!LICENSE",
      "!api",
      "!bun.lock",
      "!bunfig.toml",
      "!package.json",
      "!shared",
      "!tests/audit",
      "!tests/tools/bundle.ts",
      "!worker",
    ]);
  });

  test("runs on the versions that the project is tested with, from images that are named by digest", () => {
    const { devDependencies } = JSON.parse(text("package.json"));
    assert.ok(dockerfile.includes(`# node:${devDependencies.node}-`));
    assert.ok(dockerfile.includes("devDependencies.bun"));
    const images = [...dockerfile.matchAll(/^ARG \w+_IMAGE=(.+)$/gm)].map(([, image = ""]) => image);
    assert.equal(images.length, 2);
    for (const image of images) assert.match(image, /^[a-z]+@sha256:[0-9a-f]{64}$/);
    const bases = [...dockerfile.matchAll(/^FROM (\S+)/gm)].map(([, base]) => base);
    assert.deepEqual(bases, ["${BUILD_IMAGE}", "${BASE_IMAGE}"]);
  });
});

describe("the Compose files", () => {
  const stack = documentOf("compose/compose.yaml");
  const single = documentOf("compose/compose.single.yaml");
  const environment = documentVariables("compose/.env.example");

  test("publish the API on port 10000 and neither Redis nor RabbitMQ", () => {
    assert.match(stack.services.api.ports[0], /:\$\{API_PORT:-10000\}:10000$/);
    for (const name of ["redis", "rabbitmq", "greenmail", "worker", "prometheus"]) {
      assert.equal(stack.services[name].ports, undefined, name);
    }
  });

  test("start nothing before what it needs is healthy", () => {
    for (const [name, service] of Object.entries<any>(stack.services)) {
      // The image of the service brings its own check.
      assert.ok(service.healthcheck || /email-listener/.test(service.image), name);
      for (const { condition } of Object.values<any>(service.depends_on ?? {}))
        assert.equal(condition, "service_healthy");
    }
    assert.deepEqual(Object.keys(stack.services.api.depends_on), ["redis", "rabbitmq"]);
  });

  test("run the service unprivileged on a read-only root", () => {
    for (const service of [stack.services.api, stack.services.worker, stack.services.demo, single.services.api]) {
      assert.deepEqual([service.read_only, service.cap_drop], [true, ["ALL"]]);
    }
  });

  test("hold no secret, and the example names every variable they demand", () => {
    for (const file of ["compose/compose.yaml", "compose/compose.single.yaml"]) {
      const demanded = [...text(file).matchAll(/\$\{(\w+):\?/g)].map(([, name = ""]) => name);
      assert.deepEqual(
        demanded.filter((name) => !(name in environment)),
        [],
      );
      const secrets = [...text(file).matchAll(/^\s+(\w*(?:PASSWORD|PASS|TOKENS?|KEYS|SECRET))[:=] *(.*)$/gm)];
      assert.ok(secrets.length >= 2);
      assert.deepEqual(
        secrets.map(([, , value = ""]) => value).filter((value) => !value.startsWith("${") && value !== '""'),
        [],
      );
    }
  });

  test("pass every setting of .env on to the service, and one that there is not, so that the service can say so", () => {
    const fixed = { HOST: "", PORT: "10000", NODE_NAME: "", DATA_DIR: "/data" };
    const given = Object.fromEntries(Object.keys(SETTINGS).map((name) => [name, `given-${name}`]));
    const file = { ...environment, ...given, RETRY_HOUR: "5" };
    for (const service of [stack.services.api, stack.services.worker, single.services.api]) {
      assert.deepEqual(service.env_file, ["${ENV_FILE:-.env}"]);
      const set = Object.entries<string>(service.environment).map(([name, value]) => [name, filled(value, file)]);
      const arrived: Record<string, string> = { ...file, ...Object.fromEntries(set) };
      for (const [name, value] of Object.entries({ ...given, ...fixed })) assert.equal(arrived[name], value, name);
      assert.match(listSettingWarnings(arrived).join(), /^RETRY_HOUR is ignored.*did you mean/);
    }
  });

  test("set only settings that there are", () => {
    const set = [stack.services.api, stack.services.worker, single.services.api].flatMap((one) =>
      Object.keys(one.environment),
    );
    // Emptied, because it is in the same .env.
    assert.deepEqual([...new Set(set.filter((name) => !(name in SETTINGS)))], ["GRAFANA_PASSWORD"]);
  });

  test("have no mail server for tests unless the profile `demo` is on", () => {
    assert.deepEqual(stack.services.greenmail.profiles, ["demo"]);
  });

  test("the example's keys start a trial and are refused in production", () => {
    const set = Object.entries<string>(stack.services.api.environment);
    const env = {
      ...environment,
      ...Object.fromEntries(set.map(([name, value]) => [name, filled(value, environment)])),
    };
    const config = readConfig(env);
    assert.deepEqual([config.API_TOKENS.length, config.METRICS_TOKENS.length], [1, 1]);
    assert.deepEqual(listSettingWarnings(env), []);
    assert.throws(
      () => readConfig({ ...env, NODE_ENV: "production" }),
      (error: unknown) => {
        const refused = error instanceof Problem ? error.errors.map(({ path }) => path) : [];
        const secrets = ["API_TOKENS", "ENCRYPTION_KEYS", "METRICS_TOKENS", "RABBITMQ_PASSWORD", "REDIS_PASSWORD"];
        assert.deepEqual([...new Set(refused)].toSorted(), secrets);
        return true;
      },
    );
  });
});

describe("the sizing answer", () => {
  let node: ApiNode;
  before(async () => {
    node = await startApi({ BASE_PATH: "/mail" });
  });
  after(() => node.close());

  test("is the replica table's, for mailboxes and a flow that may be a fraction", async () => {
    const answer = await node.call("GET", "/api/v1/sizing?mailboxes=2500&flow=12.5");
    assert.deepEqual(answer.body, computeSizing({ mailboxes: 2500, flow: 12.5 }));
    assert.deepEqual([answer.body.api.replicas, answer.body.worker.replicas], [3, 3]);
    assert.equal((await node.call("GET", "/api/v1/sizing?mailboxes=-1")).status, 422);
  });

  test("needs fewer and smaller replicas than the original for the original's own flow", () => {
    const { total } = computeSizing({
      mailboxes: ORIGINAL_PRODUCT.api.replicas * ORIGINAL_PRODUCT.mailboxesPerNode,
      flow: ORIGINAL_PRODUCT.flow,
    });
    const theirs = totalOf([
      ORIGINAL_PRODUCT.api,
      ORIGINAL_PRODUCT.worker,
      ORIGINAL_PRODUCT.redis,
      ORIGINAL_PRODUCT.rabbitmq,
    ]);
    assert.ok(total.cpu < theirs.cpu && total.memoryMiB < theirs.memoryMiB / 3);
    assert.ok(computeSizing({ mailboxes: 0, flow: 0 }).api.replicas === REPLICA.api.fewest);
  });

  test("of the command says in one line what is wrong with its options; an empty one is no zero", () => {
    for (const word of ["--mailboxes=", "--flow=much", "--replicas=3", "--write="]) {
      const { status, stdout, stderr } = spawnSync(
        process.execPath,
        [...RUNTIME, join(ROOT, "api/cli/sizing.ts"), word],
        {
          encoding: "utf8",
        },
      );
      assert.deepEqual([status, stdout, stderr.trim().split("\n").length], [2, "", 1], stderr);
    }
  });

  test("the health check of the image asks the process that it is for", async () => {
    assert.equal(await health(new URL(node.url).port), 0);
    assert.equal(await health("1"), 1);
  });

  test("under a path prefix, what probes and scrapers ask is found without it too", async () => {
    const { origin } = new URL(node.url);
    for (const path of ["/healthz", "/readyz", "/metrics"]) {
      assert.equal((await fetch(origin + path)).status, 200, path);
      assert.equal((await fetch(node.url + path)).status, 200, `/mail${path}`);
    }
    assert.equal((await fetch(`${origin}/api/v1/mailboxes`)).status, 404);
  });
});

/** The exit code of the health check of the image. */
async function health(PORT: string): Promise<number | null> {
  const program = spawn(process.execPath, [...RUNTIME, join(ROOT, "api/cli/healthy.ts")], {
    env: { ...process.env, PORT },
  });
  const [code] = await once(program, "exit");
  return code;
}

/** A value as Compose fills it in: `${NAME}`, `${NAME:-default}` and `${NAME:?error}`, one inside the other. */
function filled(value: string, variables: Record<string, string>): string {
  const innermost = /\$\{(\w+)(?::([-?])([^${}]*))?\}/;
  for (let left = value; ;) {
    const [found, name = "", kind, rest = ""] = innermost.exec(left) ?? [];
    if (found === undefined) return left;
    const given = variables[name] ?? "";
    // An error inside a default counts only if the default is used.
    left = left.replace(found, () => given || (kind === "-" ? rest : ""));
  }
}

function documentVariables(file: string): Record<string, string> {
  return Object.fromEntries(
    [...text(file).matchAll(/^(\w+)=(.*)$/gm)].map(([, name = "", value = ""]) => [name, value]),
  );
}
