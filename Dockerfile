# The service as one image with two commands: `api` and `worker`. On Bun, or with --build-arg RUNTIME=node on Node.
ARG RUNTIME=bun
ARG BUN_IMAGE=oven/bun:1.4.5-slim
ARG NODE_IMAGE=node:24-bookworm-slim
ARG NODE_BASE=debian:bookworm-slim

# Bun's lockfile decides the packages for both.
FROM ${BUN_IMAGE} AS packages
WORKDIR /app
COPY package.json bun.lock bunfig.toml ./
COPY tests/audit ./tests/audit
# TypeScript is a peer dependency that nothing needs to run. The bill of materials lists what is left.
RUN bun install --frozen-lockfile --production --ignore-scripts \
 && rm -rf node_modules/typescript node_modules/@typescript node_modules/.bin \
 && find node_modules -type f \( -name "*.map" -o -name "*.d.ts" -o -name "*.d.cts" -o -name "*.d.mts" -o -name "*.md" \) -delete \
 && bun tests/audit/image-sbom.ts > sbom.cdx.json

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
COPY --from=packages /app/node_modules ./node_modules
COPY --from=packages /app/sbom.cdx.json ./
COPY package.json LICENSE ./
COPY shared ./shared
COPY worker ./worker
COPY api ./api
# The commands are the programs themselves, so no shell stands between them and a signal, and none is needed to run.
RUN ln -s /app/api/main.ts /usr/local/bin/api \
 && ln -s /app/worker/main.ts /usr/local/bin/worker \
 && for command in keys backup restore healthy; do ln -s /app/api/cli/$command.ts /usr/local/bin/$command; done \
 && chmod 755 api/main.ts worker/main.ts api/cli/keys.ts api/cli/backup.ts api/cli/restore.ts api/cli/healthy.ts \
 && mkdir /data && chown 1000:1000 /data
# The root file system may be read-only. The service writes only to DATA_DIR. Bun's allocator looks for unused memory at most
# every 30 seconds, because that takes half of the CPU time of 1,000 idle mailboxes.
ENV NODE_ENV=production \
    DATA_DIR=/data \
    BUN_RUNTIME_TRANSPILER_CACHE_PATH=0 \
    MIMALLOC_PURGE_HOLES_MIN_INTERVAL=30000
USER 1000:1000
VOLUME /data
EXPOSE 10000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["healthy"]
ENTRYPOINT []
CMD ["api"]
