# The service as one image with two commands: `api` and `worker`. On Bun, or with --build-arg RUNTIME=node on Node.
ARG RUNTIME=bun
# node:24.21.0-bookworm-slim and debian:bookworm-20260918-slim. docs/dependencies.md says how to renew the digests.
ARG BUILD_IMAGE=node@sha256:0e0ff40c39bc087845bfb27465a0df4ea419520094bc35842ff83dd8cbe6f9b6
ARG BASE_IMAGE=debian@sha256:3783cc01769c7b2b1b83a5c5ad96c815348e28ed7da68e2e3687004faa906251

FROM ${BUILD_IMAGE} AS packages
ARG RUNTIME
WORKDIR /app
COPY package.json bun.lock bunfig.toml ./
COPY tests/audit ./tests/audit
COPY tests/tools/bundle.ts ./tests/tools/
# Bun's lockfile decides the packages for both runtimes, and package.json the version of Bun. TypeScript is a peer dependency that nothing
# needs to run. The bill of materials lists what is left.
RUN npm install --global --no-fund --no-audit "bun@$(node --print 'require("./package.json").devDependencies.bun')" \
 && bun install --frozen-lockfile --production --ignore-scripts \
 && rm -rf node_modules/typescript node_modules/@typescript node_modules/.bin \
 && find node_modules -type f \( -name "*.map" -o -name "*.d.ts" -o -name "*.d.cts" -o -name "*.d.mts" -o -name "*.md" \) -delete \
 && bun tests/audit/image-sbom.ts > sbom.cdx.json \
 && cp -L "$(command -v "$RUNTIME")" /usr/local/bin/runtime
COPY shared ./shared
COPY worker ./worker
COPY api ./api
RUN bun tests/tools/bundle.ts dist && chmod 755 dist/*-main.js dist/api/cli-*.js

FROM ${BASE_IMAGE} AS service
LABEL org.opencontainers.image.title="email-listener" \
      org.opencontainers.image.description="Keeps watch over mailboxes and posts every new message to an HTTP endpoint" \
      org.opencontainers.image.licenses="MIT"
WORKDIR /app
COPY --from=packages /usr/local/bin/runtime /usr/local/bin/runtime
COPY --from=packages /app/node_modules ./node_modules
COPY --from=packages /app/sbom.cdx.json ./
COPY package.json LICENSE ./
COPY --from=packages /app/dist ./dist
# The commands are the programs themselves, so no shell stands between them and a signal, and none is needed to run.
RUN for command in api worker; do ln -s /app/dist/$command-main.js /usr/local/bin/$command; done \
 && for command in keys backup restore healthy; do ln -s /app/dist/api/cli-$command.js /usr/local/bin/$command; done \
 && mkdir /data && chown 1000:1000 /data
# The root file system may be read-only. The service writes only to DATA_DIR. Bun's allocator looks for unused memory at most
# every 30 seconds, because that takes half of the CPU time of 1,000 idle mailboxes. Its last JIT compiler is off: the work of a mail
# is spread over so many functions that compiling them takes a fifth of the CPU time of a burst and saves less.
ENV NODE_ENV=production \
    DATA_DIR=/data \
    BUN_RUNTIME_TRANSPILER_CACHE_PATH=0 \
    BUN_JSC_useFTLJIT=0 \
    MIMALLOC_PURGE_HOLES_MIN_INTERVAL=30000
USER 1000:1000
VOLUME /data
EXPOSE 10000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["healthy"]
ENTRYPOINT []
CMD ["api"]
