#!/bin/sh
# Tests the stack on any Docker engine: checks both files, builds, starts everything, and waits until a mail went from the mail server
# to the endpoint. Then it replaces API and worker while mail flows, counts every message, and removes everything.
# PREVIOUS=<image> starts with that image, so that the replacement is an upgrade.
# PULL=never uses only local images.  IMAGE=... and BUILD=no test a local image. BUILD_OPTIONS are given to `docker build`.
set -eu
cd "$(dirname "$0")"
env_file=$(mktemp)
trap 'rm -f "$env_file"' EXIT
secret() { head -c 24 /dev/urandom | base64 | tr '+/' '-_'; }
cat > "$env_file" <<END
NODE_ENV=production
API_TOKEN=$(secret)
METRICS_TOKEN=$(secret)
ENCRYPTION_KEYS=k1:$(head -c 32 /dev/urandom | base64 | tr -d '\n')
REDIS_PASSWORD='p@ss/w:rd%&,#$(secret)'
RABBITMQ_LOGIN=email-listener
RABBITMQ_PASSWORD='p@ss/w:rd%&,#$(secret)'
GRAFANA_PASSWORD=$(secret)
API_PORT=${API_PORT:-10080}
BASE_PATH=/mail
MAIL_EVERY_SECONDS=1
END
# A project name of its own, so that a running stack is not touched.
export ENV_FILE="$env_file"
stack() { docker compose --ansi never --project-name email-listener-try --env-file "$env_file" -f compose.yaml --profile demo "$@"; }
down() { stack down --volumes --timeout 20; rm -f "$env_file"; }

for file in compose.yaml compose.single.yaml; do
  docker compose --env-file "$env_file" -f "$file" --profile demo --profile observe config --quiet
  ENV_FILE=.env.example docker compose --env-file .env.example -f "$file" config --quiet
done
echo "ok: both files are valid"

# shellcheck disable=SC2086 # BUILD_OPTIONS has several words.
[ "${BUILD:-yes}" = no ] || docker build ${BUILD_OPTIONS:-} -t "${IMAGE:-email-listener:local}" ..
megabytes=$(($(docker save "${IMAGE:-email-listener:local}" | gzip | wc -c) / 1000000))
[ "$megabytes" -le 150 ] || { echo "failed: the image has $megabytes MB compressed, and 150 are allowed" >&2; exit 1; }
echo "ok: the image has $megabytes MB compressed"
if docker run --rm --env-file .env.example -e NODE_ENV=production -e API_TOKENS=published-example-token "${IMAGE:-email-listener:local}" api; then
  echo "failed: the example's keys were taken in production" >&2
  exit 1
fi
echo "ok: production refuses the example's keys"

trap down EXIT
if ! IMAGE=${PREVIOUS:-${IMAGE:-email-listener:local}} stack up --wait --wait-timeout 240 --no-build --pull "${PULL:-missing}"; then
  stack ps --all
  stack logs --tail 40
  exit 1
fi
stack ps
stack logs demo | grep delivered
echo "ok: a mail went from the mail server through API, RabbitMQ and worker to the endpoint"
stack up --detach --no-build --wait --wait-timeout 120 --force-recreate --no-deps api worker
logs() { stack logs --no-log-prefix demo; }
sent=$(logs | grep -c "sent [0-9]" || true)
for _ in $(seq 60); do
  delivered=$(logs | grep -o "delivered msg_[a-z0-9]*" | sort -u | wc -l)
  [ "$delivered" -ge "$sent" ] && break
  sleep 1
done
repeated=$(logs | grep -o "delivered msg_[a-z0-9]*" | sort | uniq -d | wc -l)
echo "API and worker were replaced under mail: $sent sent, $delivered delivered, $repeated repeated"
[ "$sent" -gt 0 ] && [ "$delivered" -ge "$sent" ] && [ "$repeated" -eq 0 ]
echo "ok: nothing lost, nothing repeated"
