/**
 * `bun run try-cluster` gives every overlay and every documented variation to a real Kubernetes API server: each document must be valid, and
 * each pod be admitted into its namespace, which enforces Pod Security "restricted". Kinds of operators that are not installed are named.
 */
import { type Found, rendered, renderVariation } from "../deploy/manifests.ts";
import { type ApiServer, startApiServer } from "../deploy/api-server.ts";
import { VARIATIONS } from "../deploy/variations.ts";

type Tried = { documents: number; pods: number; skipped: Set<string>; refused: string[] };

const server = await startApiServer();
try {
  const overlays = Map.groupBy(rendered(), ({ file }) => file);
  const variations = Object.entries(VARIATIONS).map(
    ([name, changes]) => [name, renderVariation(changes) ?? []] as const,
  );
  let isRefused = !refusesUnsafePod(server);
  for (const [name, found] of [...overlays, ...variations]) {
    const { documents, pods, skipped, refused } = tryAll(server, found);
    const without = skipped.size === 0 ? "" : `; not known to this server: ${[...skipped].join(", ")}`;
    console.log(`${refused.length > 0 ? "failed" : "ok"}: ${name}: ${documents} documents, ${pods} pods${without}`);
    for (const one of refused) console.error(`  ${one}`);
    isRefused ||= refused.length > 0 || pods === 0;
  }
  process.exitCode = isRefused ? 1 : 0;
} finally {
  await server.stop();
}

function tryAll({ kubectl }: ApiServer, found: Found[]): Tried {
  const tried: Tried = { documents: 0, pods: 0, skipped: new Set(), refused: [] };
  const give = (document: object, ...more: string[]) =>
    kubectl(["apply", "--server-side", "--validate=strict", ...more, "-f", "-"], JSON.stringify(document));
  // The namespaces stay; everything else is only validated, so that one variation does not meet another.
  const inOrder = found.toSorted(
    (a, b) => Number(b.manifest.kind === "Namespace") - Number(a.manifest.kind === "Namespace"),
  );
  for (const { manifest } of inOrder) {
    const { kind, metadata } = manifest;
    const { ok, output } = give(manifest, ...(kind === "Namespace" ? [] : ["--dry-run=server"]));
    if (/no matches for kind/.test(output)) {
      tried.skipped.add(kind);
      continue;
    }
    tried.documents++;
    if (!ok) tried.refused.push(`${kind}/${metadata.name}: ${output}`);
    const pod = podOf(manifest);
    if (!pod) continue;
    tried.pods++;
    const admitted = give(pod, "--dry-run=server");
    if (!admitted.ok || /would violate/.test(admitted.output))
      tried.refused.push(`the pod of ${kind}/${metadata.name}: ${admitted.output}`);
  }
  return tried;
}

/** A pod as the controller of this document makes it; undefined for what has none. */
function podOf({ kind, metadata, spec }: Found["manifest"]): object | undefined {
  if (!spec?.template?.spec) return undefined;
  const { namespace } = metadata as { namespace?: string };
  const claims: { metadata: { name: string } }[] = spec.volumeClaimTemplates ?? [];
  const volumes = claims.map(({ metadata: { name } }) => ({ name, persistentVolumeClaim: { claimName: `${name}-0` } }));
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { ...spec.template.metadata, name: `${metadata.name}-${kind.toLowerCase()}`, namespace },
    spec: { ...spec.template.spec, volumes: [...(spec.template.spec.volumes ?? []), ...volumes] },
  };
}

/** Whether the server refuses a pod that may run as root where "restricted" is enforced: else its admission proves nothing. */
function refusesUnsafePod({ kubectl }: ApiServer): boolean {
  const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
  const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name: "refusing", labels } };
  const container = { name: "a", image: "a" };
  const pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "a", namespace: "refusing" },
    spec: { containers: [container] },
  };
  kubectl(["apply", "-f", "-"], JSON.stringify(namespace));
  const { ok, output } = kubectl(["apply", "--dry-run=server", "-f", "-"], JSON.stringify(pod));
  const refuses = !ok && /violates PodSecurity/.test(output);
  console.log(
    refuses
      ? "ok: a pod that may run as root is refused"
      : `failed: a pod that may run as root is not refused: ${output}`,
  );
  return refuses;
}
