/** The variations of the production overlay. */
import type { Variation } from "./manifests.ts";

/** Each variation of the production overlay that k8s/README.md documents. */
export const VARIATIONS: Record<string, Variation> = {
  "KEDA in place of HPA": [
    ["- ../../components/hpa", "# hpa"],
    ["# - ../../components/keda", "- ../../components/keda"],
  ],
  "no autoscaler": [
    ["- ../../components/hpa", "# hpa"],
    ["images:", "replicas: [{ name: api, count: 3 }, { name: worker, count: 4 }]\nimages:"],
  ],
  "a node port": [["- ../../components/ingress", "- ../../components/nodeport"]],
  "a namespace of its own, with monitoring and KEDA": [
    ["namespace: email-listener", "namespace: crm"],
    ["- ../../components/hpa", "- ../../components/keda"],
    ["# - ../../components/monitoring", "- ../../components/monitoring"],
  ],
  "other servers": [
    ["- ../../components/redis", "# redis"],
    ["- ../../components/rabbitmq", "# rabbitmq"],
    [
      "- LOG_LEVEL=info",
      "- REDIS_URL=rediss://redis.example.com:6380/3\n      - RABBITMQ_URL=amqps://mq.example.com/mail",
    ],
  ],
  "a path": [
    ["- BASE_PATH=", "- BASE_PATH=/mail"],
    ["paths/0/path, value: /", "paths/0/path, value: /mail"],
  ],
  "images by digest": [["# - ../../components/digests", "- ../../components/digests"]],
};
