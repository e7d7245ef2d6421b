/** The custom resources that the manifests use, as strict types: what their operators document, as far as it is used here. */
import type { ObjectMeta } from "kubernetes-types/meta/v1.js";
import type { HorizontalPodAutoscalerBehavior } from "kubernetes-types/autoscaling/v2.js";
import type { LabelSelector } from "kubernetes-types/meta/v1.js";

type Custom<S> = { apiVersion: string; kind: string; metadata: ObjectMeta; spec: S };
type Endpoint = {
  port: string;
  path: string;
  interval: string;
  authorization?: { type?: string; credentials: { name: string; key: string } };
};
type Rule = {
  alert: string;
  expr: string;
  for?: string;
  labels: { severity: "info" | "warning" | "critical" };
  annotations: { summary: string };
};
type Trigger = {
  type: "prometheus";
  metricType: "AverageValue" | "Value";
  metadata: { serverAddress: string; query: string; threshold: string };
};

export type ServiceMonitor = Custom<{ selector: LabelSelector; endpoints: Endpoint[] }>;
export type PrometheusRule = Custom<{ groups: { name: string; rules: Rule[] }[] }>;
export type ScaledObject = Custom<{
  scaleTargetRef: { apiVersion: string; kind: string; name: string };
  minReplicaCount: number;
  maxReplicaCount: number;
  advanced: { horizontalPodAutoscalerConfig: { behavior: HorizontalPodAutoscalerBehavior } };
  triggers: Trigger[];
}>;
