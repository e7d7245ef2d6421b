# The service as one image with two commands: `api` and `worker`. On Bun, or with --build-arg RUNTIME=node on Node.
ARG RUNTIME=bun
ARG BUN_IMAGE=oven/bun:1.4.5-slim
ARG NODE_IMAGE=node:24-bookworm-slim
ARG NODE_BASE=debian:bookworm-slim

# Bun's lockfile decides the packages for both. TypeScript comes as a peer dependency and is not needed to run.
FROM ${BUN_IMAGE} AS packages
WORKDIR /app
COPY package.json bun.lock bunfig.toml ./
RUN bun install --frozen-lockfile --production --ignore-scripts \
 && rm -rf node_modules/typescript node_modules/@typescript node_modules/.bin \
 && find node_modules -type f \( -name "*.map" -o -name "*.d.ts" -o -name "*.d.cts" -o -name "*.d.mts" -o -name "*.md" \) -delete

FROM ${BUN_IMAGE} AS on-bun
RUN ln -s "$(command -v bun)" /usr/local/bin/runtime

FROM ${NODE_IMAGE} AS node
# Only the program, without npm and yarn.
FROM ${NODE_BASE} AS on-node
COPY --from=node /usr/local/bin/node /usr/local/bin/node
RUN ln -s node /usr/local/bin/runtime

FROM on-${RUNTIME} AS service
LABEL org.opencontainers.image.title="email-listener" \
      org.opencontainers.image.description="Keeps watch over mailboxes and posts every new message to an HTTP endpoint" \
      org.opencontainers.image.licenses="MIT"
WORKDIR /app
# Commands that replace the shell, so that signals reach the service. The health check is for Docker; Kubernetes has its own probes.
RUN printf '#!/bin/sh\nexec runtime /app/api/main.ts\n' > /usr/local/bin/api \
 && printf '#!/bin/sh\nexec runtime /app/worker/main.ts\n' > /usr/local/bin/worker \
 && printf '#!/bin/sh\nexec runtime /app/api/cli/keys.ts "$@"\n' > /usr/local/bin/keys \
 && printf '#!/bin/sh\nexec runtime /app/api/cli/backup.ts backup "$@"\n' > /usr/local/bin/backup \
 && printf '#!/bin/sh\nexec runtime /app/api/cli/backup.ts restore "$@"\n' > /usr/local/bin/restore \
 && printf '#!/bin/sh\nexec runtime -e "%s"\n' \
      "fetch('http://127.0.0.1:' + (process.env.PORT || 10000) + '/healthz').then((a) => process.exit(a.ok ? 0 : 1), () => process.exit(1))" \
      > /usr/local/bin/healthy \
 && chmod 755 /usr/local/bin/api /usr/local/bin/worker /usr/local/bin/keys /usr/local/bin/backup /usr/local/bin/restore /usr/local/bin/healthy \
 && mkdir /data && chown 1000:1000 /data
COPY --from=packages /app/node_modules ./node_modules
COPY package.json LICENSE ./
COPY shared ./shared
COPY worker ./worker
COPY api ./api
# The root file system may be read-only. The service writes only to DATA_DIR.
ENV NODE_ENV=production \
    DATA_DIR=/data \
    BUN_RUNTIME_TRANSPILER_CACHE_PATH=0
USER 1000:1000
VOLUME /data
EXPOSE 10000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["healthy"]
ENTRYPOINT []
CMD ["api"]
