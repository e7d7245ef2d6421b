/** Proves alerts by promtool, with series as the service's own metrics had them in a state. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stringify } from "yaml";
import { documentsOf } from "./manifests.ts";

/** The text of `/metrics` of each pod. Empty: the pod does not answer. */
export type Recording = Readonly<Record<string, string>>;
/** Values of series from then on, in promtool's notation, such as `0+10x60`. The series is named without the pod. */
export type Changes = Readonly<Record<string, string>>;
/**
 * All is well for half an hour. Then the pods say what was recorded in another state, or some series change. `firing` are
 * the alerts at that minute, without the prefix that all have; all others must be silent.
 */
export type AlertCase = {
  name: string;
  state?: Recording;
  changes?: Changes;
  firing: readonly string[];
  atMinute?: number;
};

type Rule = { alert: string; labels: { severity: string }; annotations: { summary: string } };

const [WELL_MINUTES, MINUTES] = [30, 120];
const NAMESPACE = "mail";

/** What promtool says is wrong; empty when every case is right. */
export function alertErrors(promtool: string, well: Recording, cases: readonly AlertCase[]): string {
  const { groups } = documentsOf("k8s/components/monitoring/alerts.yaml")[0].spec;
  const rules: Rule[] = groups[0].rules;
  const folder = mkdtempSync(join(tmpdir(), "alerts-"));
  try {
    writeFileSync(join(folder, "rules.yml"), stringify({ groups }));
    const tests = cases.map((one) => ({
      name: one.name,
      interval: "1m",
      input_series: toSeries(well, one),
      alert_rule_test: rules.map((rule) => toExpectation(rule, one)),
    }));
    writeFileSync(
      join(folder, "tests.yml"),
      stringify({ rule_files: ["rules.yml"], evaluation_interval: "1m", tests }),
    );
    const done = spawnSync(promtool, ["test", "rules", "tests.yml"], {
      cwd: folder,
      encoding: "utf8",
      timeout: 60_000,
    });
    if (done.error) throw done.error;
    return done.status === 0 ? "" : done.stdout + done.stderr;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function toExpectation({ alert, labels, annotations }: Rule, { firing, atMinute = 80 }: AlertCase): object {
  const fires = firing.map((name) => `EmailListener${name}`).includes(alert);
  const pods = alert === "EmailListenerNodeNotReady" ? ["api-0", "worker-0"].map((pod) => ({ pod })) : [{}];
  const expected = pods.map((pod) => ({
    exp_labels: { severity: labels.severity, namespace: NAMESPACE, ...pod },
    exp_annotations: annotations,
  }));
  return { eval_time: `${atMinute}m`, alertname: alert, exp_alerts: fires ? expected : [] };
}

function toSeries(well: Recording, { state = well, changes = {} }: AlertCase): { series: string; values: string }[] {
  const later = MINUTES - WELL_MINUTES;
  return Object.keys(well).flatMap((pod) => {
    const [before, after] = [valuesOf(well[pod] ?? ""), valuesOf(state[pod] ?? "")];
    const changed = Object.entries(changes).filter(([series]) => before.has(series) || pod === "api-0");
    const all = new Map([
      ...[...before.keys(), ...after.keys()].map((series) => [series, undefined] as const),
      ...changed,
    ]);
    return [...all].map(([series, values]) => ({
      series: withLabels(series, pod),
      values: `${before.get(series) ?? "_"}x${WELL_MINUTES - 1} ${values ?? `${after.get(series) ?? "_"}x${later}`}`,
    }));
  });
}

/** The series of the service by their names with labels. Those of histograms' buckets are of no interest here. */
function valuesOf(text: string): Map<string, string> {
  const lines = text.matchAll(/^(email_listener_(?!\w*_bucket)\w+(?:\{[^}]*\})?) (\S+)$/gm);
  return new Map([...lines].map(([, series = "", value = ""]) => [series, value]));
}

function withLabels(series: string, pod: string): string {
  const [, name = "", labels] = /^(\w+)(?:\{(.*)\})?$/.exec(series) ?? [];
  return `${name}{namespace="${NAMESPACE}",pod="${pod}"${labels ? `,${labels}` : ""}}`;
}
