/** The manifests for Kubernetes: strictly valid, within Pod Security "restricted", and with the numbers of the replica table. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { sizingComponent } from "../api/cli/sizing.ts";
import {
  MAX_MAILBOXES_PER_NODE,
  TARGET_MAILBOXES_PER_NODE,
  nodeMiB,
  MEASURED,
  PLANNED,
  RABBITMQ,
  redisLimitMiB,
  REPLICA,
  WORKER_MAILS_PER_SECOND,
  computeSizing,
  AUTOSCALER_TOLERANCE,
  MAX_TASKS_PER_WORKER,
  MAX_TASK_WAIT_SECONDS,
} from "../api/sizing.ts";
import { SETTINGS } from "../shared/settings.ts";
import { composeAlerts } from "./tools/compose-alerts.ts";
import {
  documentsOf,
  exists,
  filesIn,
  type Found,
  kustomizations,
  manifests,
  namedBy,
  orphans,
  rendered,
  renderVariation,
  ROOT,
} from "./deploy/manifests.ts";
import { restrictedErrors } from "./deploy/restricted.ts";
import { strictErrors } from "./deploy/strict.ts";
import { VARIATIONS } from "./deploy/variations.ts";

const all = [...manifests(), ...rendered()];
const ours = all.filter(({ patch: part }) => !part);
const of = (kind: string, name: string) =>
  ours.filter(({ manifest }) => manifest.kind === kind && manifest.metadata.name === name);
const only = (kind: string, name: string) => {
  const [found] = of(kind, name);
  assert.ok(found, `${kind}/${name}`);
  return found.manifest;
};

describe("the manifests", () => {
  test("have no unknown member, no wrong type, and every required member", () => {
    assert.ok(all.length > 30, String(all.length));
    assert.deepEqual(strictErrors(all), []);
  });

  test("are checked by a check that sees an unknown member, a wrong type and a missing one", () => {
    const { manifest } = of("StatefulSet", "api")[0] ?? assert.fail();
    const changed = (change: (copy: any) => void): Found => {
      const copy = structuredClone(manifest);
      change(copy);
      return { file: "changed", patch: false, manifest: copy };
    };
    const errors = strictErrors([
      changed((copy) => (copy.spec.template.spec.containers[0].imagePullPolice = "Always")),
      changed((copy) => (copy.spec.minReadySeconds = "ten")),
      changed((copy) => delete copy.spec.selector),
    ]);
    assert.deepEqual(
      errors.map((line) => /imagePullPolice|'number'|selector/.exec(line)?.[0]),
      ["imagePullPolice", "'number'", "selector"],
    );
  });

  test("keep to Pod Security restricted, in a namespace that enforces it", () => {
    assert.deepEqual(ours.flatMap(restrictedErrors), []);
    const { labels } = only("Namespace", "email-listener").metadata;
    assert.equal(labels["pod-security.kubernetes.io/enforce"], "restricted");
    const loose = structuredClone(of("StatefulSet", "api")[0] ?? assert.fail());
    delete loose.manifest.spec.template.spec.securityContext;
    assert.equal(restrictedErrors(loose).length, 2);
  });

  test("run the service with a read-only root and no token of the cluster", () => {
    for (const [kind, name] of [
      ["StatefulSet", "api"],
      ["Deployment", "worker"],
    ] as const) {
      for (const { manifest } of of(kind, name)) {
        const pod = manifest.spec.template.spec;
        assert.equal(pod.automountServiceAccountToken, false);
        assert.equal(pod.containers[0].securityContext.readOnlyRootFilesystem, true);
      }
      assert.equal((only("ServiceAccount", name) as any).automountServiceAccountToken, false);
    }
  });

  test("give a node time to drain, and ask for its life without asking Redis, RabbitMQ or mail servers", () => {
    for (const { manifest } of [...of("StatefulSet", "api"), ...of("Deployment", "worker")]) {
      const { terminationGracePeriodSeconds: grace, containers } = manifest.spec.template.spec;
      const [{ lifecycle, livenessProbe, readinessProbe, startupProbe }] = containers;
      const before = Number(lifecycle?.preStop.exec.command[1] ?? 0);
      assert.ok(grace >= before + 20, `${grace}`);
      assert.equal(livenessProbe.httpGet.path, "/healthz");
      assert.equal(startupProbe.httpGet.path, "/healthz");
      assert.equal(readinessProbe.httpGet.path, "/readyz");
    }
  });

  test("are all named by a kustomization, and none that is named is missing", () => {
    assert.deepEqual(orphans(), []);
    const missing = kustomizations()
      .flatMap((one) => Object.values(namedBy(one)).flat())
      .filter((path) => !exists(path));
    assert.deepEqual(missing, []);
  });

  test("never put two autoscalers on one target", () => {
    for (const { file, content } of kustomizations()) {
      const scaling = (content.components ?? []).filter((path: string) => /\/(hpa|keda)$/.test(path));
      assert.ok(scaling.length < 2, file);
    }
  });

  test("set only settings that there are, and keep secrets out of the ConfigMap", () => {
    const names = new Set(Object.keys(SETTINGS));
    const literals = kustomizations().flatMap(({ content }) =>
      (content.configMapGenerator ?? []).flatMap((one: { literals: string[] }) => one.literals),
    );
    const set = literals.map((literal: string) => literal.split("=")[0] ?? "");
    assert.deepEqual(
      set.filter((name) => !names.has(name)),
      [],
    );
    assert.deepEqual(
      set.filter((name) => /PASSWORD|TOKEN|KEYS/.test(name)),
      [],
    );
  });
});

describe("the variations of the production overlay", () => {
  const variations = Object.entries(VARIATIONS).map(([name, changes]) => [name, renderVariation(changes)] as const);

  test("render, and are strictly valid", (t) => {
    const found = variations.flatMap(([name, some]) => some?.map((one) => ({ ...one, file: name })) ?? []);
    if (found.length === 0) return t.skip("no kustomize");
    assert.equal(new Set(found.map(({ file }) => file)).size, variations.length);
    assert.deepEqual(strictErrors(found), []);
    assert.deepEqual(found.flatMap(restrictedErrors), []);
  });

  const inVariation = (variation: keyof typeof VARIATIONS, kind: string, name: string): any =>
    new Map(variations)
      .get(variation)
      ?.find(({ manifest }) => manifest.kind === kind && manifest.metadata.name === name)?.manifest;

  test("have what was asked for", (t) => {
    if (!variations[0]?.[1]) return t.skip("no kustomize");
    assert.equal(inVariation("KEDA in place of HPA", "ScaledObject", "api").spec.maxReplicaCount, 4);
    assert.equal(inVariation("KEDA in place of HPA", "HorizontalPodAutoscaler", "api"), undefined);
    const replicas = [
      inVariation("no autoscaler", "StatefulSet", "api"),
      inVariation("no autoscaler", "Deployment", "worker"),
    ];
    assert.deepEqual(
      replicas.map(({ spec }) => spec.replicas),
      [3, 4],
    );
    assert.equal(inVariation("a node port", "Service", "api").spec.ports[0].nodePort, 31313);
    assert.equal(inVariation("a node port", "Ingress", "api"), undefined);
    assert.equal(inVariation("a path", "Ingress", "api").spec.rules[0].http.paths[0].path, "/mail");
    assert.equal(inVariation("other servers", "StatefulSet", "redis"), undefined);
  });

  test("in a namespace of its own nothing names another one, so that two installations do not meet", (t) => {
    const found = new Map(variations).get("a namespace of its own, with monitoring and KEDA");
    if (!found) return t.skip("no kustomize");
    const elsewhere = found.filter(({ manifest }) => {
      const text = JSON.stringify(manifest);
      return (
        manifest.kind !== "Namespace" && (!text.includes('"namespace":"crm"') || /namespace=\\"(?!crm)/.test(text))
      );
    });
    assert.deepEqual(elsewhere, []);
    assert.ok(found.some(({ manifest }) => manifest.kind === "Namespace" && manifest.metadata.name === "crm"));
    const queries = found.flatMap(
      ({ manifest }) => manifest.spec?.triggers?.map((one: any) => one.metadata.query) ?? [],
    );
    assert.deepEqual(
      queries.filter((query) => !query.includes('namespace="crm"')),
      [],
    );
    assert.equal(queries.length, 3);
    const hosts = found.flatMap(({ manifest }) => JSON.stringify(manifest).match(/email-listener\.svc/g) ?? []);
    assert.deepEqual(hosts, []);
  });
});

describe("the replica table and the manifests agree", () => {
  test("on what one replica reserves and may take", () => {
    for (const [kind, name] of [
      ["StatefulSet", "api"],
      ["Deployment", "worker"],
    ] as const) {
      const { replicas, template } = of(kind, name)[0]?.manifest.spec ?? {};
      const { cpu, memoryMiB, cpuLimit, memoryLimitMiB } = REPLICA[name];
      assert.equal(replicas, undefined, "replicas are the autoscaler's");
      const { requests, limits } = template.spec.containers[0].resources;
      assert.deepEqual([cores(requests.cpu), mebi(requests.memory)], [cpu, memoryMiB]);
      assert.deepEqual([cores(limits.cpu), mebi(limits.memory)], [cpuLimit, memoryLimitMiB]);
    }
  });

  test("on how many mailboxes a node should and can hold, and on what adds workers", () => {
    const api = only("HorizontalPodAutoscaler", "api").spec;
    const worker = only("HorizontalPodAutoscaler", "worker").spec;
    assert.deepEqual(targets(api), { email_listener_mailboxes_enabled: TARGET_MAILBOXES_PER_NODE });
    assert.deepEqual(targets(worker), {
      email_listener_tasks_ready: MAX_TASKS_PER_WORKER,
      email_listener_task_wait_seconds: MAX_TASK_WAIT_SECONDS,
    });
    assert.deepEqual([api.minReplicas, worker.minReplicas], [REPLICA.api.fewest, REPLICA.worker.fewest]);
    assert.deepEqual([api.maxReplicas, worker.maxReplicas], [REPLICA.api.most, REPLICA.worker.most]);
    const [base] = kustomizations().filter(({ folder }) => folder === "k8s/base");
    assert.ok(base?.content.configMapGenerator[0].literals.includes(`MAILBOXES_PER_NODE=${MAX_MAILBOXES_PER_NODE}`));
  });

  test("a node has room for its target, what the autoscaler tolerates, and the share of one that is away", () => {
    assert.ok(TARGET_MAILBOXES_PER_NODE * (1 + AUTOSCALER_TOLERANCE) * 2 <= MAX_MAILBOXES_PER_NODE);
    assert.ok(nodeMiB(TARGET_MAILBOXES_PER_NODE) <= REPLICA.api.memoryMiB);
    assert.ok(nodeMiB(MAX_MAILBOXES_PER_NODE) <= REPLICA.api.memoryLimitMiB);
  });

  test("replicas are taken away slowly and one by one, by either autoscaler", () => {
    const hpas = ["api", "worker"].map((name) => only("HorizontalPodAutoscaler", name).spec.behavior);
    const keda = ["api", "worker"].map((name) => only("ScaledObject", name).spec);
    const behaviors = [...hpas, ...keda.map(({ advanced }) => advanced.horizontalPodAutoscalerConfig.behavior)];
    for (const { scaleDown } of behaviors) {
      assert.ok(scaleDown.stabilizationWindowSeconds >= 600);
      assert.deepEqual(
        scaleDown.policies.map(({ type, value }: any) => `${value} ${type}`),
        ["1 Pods"],
      );
    }
    const thresholds = keda.map(({ triggers }) => triggers.map(({ metadata }: any) => Number(metadata.threshold)));
    assert.deepEqual(thresholds, [[TARGET_MAILBOXES_PER_NODE], [MAX_TASKS_PER_WORKER, MAX_TASK_WAIT_SECONDS]]);
  });

  test("Redis keeps its data below its memory limit, and the manifests have the sizes of the table", () => {
    const least = computeSizing({ mailboxes: 1000, flow: 1 });
    const { requests, limits } = only("StatefulSet", "redis").spec.template.spec.containers[0].resources;
    const [maxmemory] = only("StatefulSet", "redis").spec.template.spec.containers[0].env;
    assert.deepEqual([maxmemory.name, maxmemory.value], ["REDIS_MAXMEMORY", `${least.redis.memoryMiB}mb`]);
    assert.deepEqual(
      [mebi(requests.memory), mebi(limits.memory)],
      [least.redis.memoryMiB, redisLimitMiB(least.redis.memoryMiB)],
    );
    for (const mailboxes of [0, 1000, 50_000]) {
      const { memoryMiB } = computeSizing({ mailboxes, flow: 20 }).redis;
      assert.ok(memoryMiB * MIB > Number(SETTINGS.SPOOL_BYTES.default) && redisLimitMiB(memoryMiB) >= memoryMiB * 1.25);
    }
    const rabbit = only("StatefulSet", "rabbitmq").spec.template.spec.containers[0].resources;
    assert.deepEqual(
      [mebi(rabbit.requests.memory), mebi(rabbit.limits.memory)],
      [RABBITMQ.memoryMiB, RABBITMQ.memoryLimitMiB],
    );
  });

  test("a worker's reserved CPU is enough for its mails, by figures above the measured ones", () => {
    for (const figure of ["baseBytes", "mailboxBytes", "rememberedBytes", "messageCpuSeconds"] as const)
      assert.ok(PLANNED[figure] >= 1.3 * MEASURED[figure].value, figure);
    assert.ok(WORKER_MAILS_PER_SECOND * PLANNED.messageCpuSeconds <= REPLICA.worker.cpu);
  });

  test("Compose has the alerts of the manifests (bun run alerts)", () => {
    const { is, should } = composeAlerts();
    assert.equal(is, should);
  });

  test("the component of the production overlay is what the sizing command writes for the demand it names", () => {
    const file = "k8s/overlays/production/sizing/kustomization.yaml";
    const text = readFileSync(join(ROOT, file), "utf8");
    const [, mailboxes, flow] = /--mailboxes (\d+) --flow ([\d.]+)/.exec(text) ?? [];
    assert.equal(text, sizingComponent(computeSizing({ mailboxes: Number(mailboxes), flow: Number(flow) })));
    const written = documentsOf(file)[0].patches.flatMap(({ target }: any) => `${target.kind}/${target.name}`);
    const autoscalers = ["api", "worker"].flatMap((name) => [
      `HorizontalPodAutoscaler/${name}`,
      `ScaledObject/${name}`,
    ]);
    assert.deepEqual(written, [...autoscalers, "StatefulSet/redis", "StatefulSet/rabbitmq"]);
  });

  test("metrics that autoscalers, alerts and dashboards ask for exist", () => {
    const source = readFileSync(join(ROOT, "shared/telemetry/metrics.ts"), "utf8");
    const asking = [...filesIn("k8s", ".yaml"), ...filesIn("compose", ".json")];
    const asked = asking.flatMap((file) => [
      ...readFileSync(join(ROOT, file), "utf8").matchAll(/\bemail_listener_(\w+?)(?:_bucket)?\b/g),
    ]);
    const missing = new Set(asked.map(([, name = ""]) => name).filter((name) => !source.includes(`"${name}"`)));
    // Made by the adapter's rules of the metric with a label.
    missing.delete("tasks_ready");
    assert.deepEqual([...missing], []);
  });
});

function targets({ metrics }: any): Record<string, number> {
  return Object.fromEntries(
    metrics.map(({ external: { metric, target } }: any) => [metric.name, Number(target.averageValue ?? target.value)]),
  );
}

const MIB = 2 ** 20;
const cores = (text: string) => (text.endsWith("m") ? Number(text.slice(0, -1)) / 1000 : Number(text));
const mebi = (text: string) => (text.endsWith("Gi") ? Number(text.slice(0, -2)) * 1024 : Number(text.slice(0, -2)));
