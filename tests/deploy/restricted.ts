/** The rules of the Pod Security Standard "restricted" (https://kubernetes.io/docs/concepts/security/pod-security-standards/). */
import type { Found } from "./manifests.ts";

const VOLUMES = [
  "configMap",
  "csi",
  "downwardAPI",
  "emptyDir",
  "ephemeral",
  "persistentVolumeClaim",
  "projected",
  "secret",
];

/** Which rules the pod of this document breaks; none for what has no pod. */
export function restrictedErrors({ file, manifest }: Found): string[] {
  const pod = manifest.spec?.template?.spec;
  if (!pod) return [];
  const containers: any[] = [...(pod.initContainers ?? []), ...(pod.ephemeralContainers ?? []), ...pod.containers];
  const wrong = [...podErrors(pod), ...containers.flatMap((one) => containerErrors(one, pod.securityContext ?? {}))];
  return wrong.map((what) => `${file} ${manifest.kind}/${manifest.metadata.name}: ${what}`);
}

function podErrors(pod: any): string[] {
  const shared = ["hostNetwork", "hostPID", "hostIPC"].filter((name) => pod[name]);
  const volumes: Record<string, unknown>[] = pod.volumes ?? [];
  const kinds = volumes.flatMap((volume) => Object.keys(volume).filter((key) => key !== "name"));
  return [...shared, ...kinds.filter((kind) => !VOLUMES.includes(kind)).map((kind) => `a volume of kind ${kind}`)];
}

function containerErrors(container: any, pod: any): string[] {
  const own = container.securityContext ?? {};
  const { allowPrivilegeEscalation, capabilities = {}, privileged, procMount } = own;
  const merged = { ...pod, ...own };
  const rules: [boolean, string][] = [
    [allowPrivilegeEscalation === false, "allowPrivilegeEscalation must be false"],
    [!privileged, "privileged"],
    [(capabilities.drop ?? []).includes("ALL"), "capabilities.drop must have ALL"],
    [(capabilities.add ?? []).every((one: string) => one === "NET_BIND_SERVICE"), "capabilities.add"],
    [merged.runAsNonRoot === true, "runAsNonRoot must be true"],
    [merged.runAsUser !== 0, "runAsUser must not be 0"],
    [["RuntimeDefault", "Localhost"].includes(merged.seccompProfile?.type), "seccompProfile"],
    [procMount === undefined || procMount === "Default", "procMount"],
    [(container.ports ?? []).every((port: { hostPort?: number }) => !port.hostPort), "hostPort"],
  ];
  return rules.filter(([kept]) => !kept).map(([, rule]) => `${container.name}: ${rule}`);
}
