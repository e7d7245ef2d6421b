#!/bin/sh
# Builds stand-ins for the images of the Dockerfile and of compose.yaml from Debian's packages, npm and Maven Central: for a Docker engine that
# reaches no image registry. As root on Debian, with debootstrap, npm and mvn. They serve for a trial only:
#   tests/tools/stand-in-images.sh
#   PULL=never BUILD_OPTIONS="--network host --build-arg BUILD_IMAGE=node:stand-in --build-arg BASE_IMAGE=debian:stand-in" compose/try.sh
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
certificates=/etc/ssl/certs/ca-certificates.crt
image_of() { sed -n "s|^ *image: \($1:.*\)$|\1|p" "$root/compose/compose.yaml"; }
build() { DOCKER_BUILDKIT=0 docker build --quiet --network host --tag "$1" --file - "$2"; }

# As debian:bookworm-slim: without documentation, translations and lists of packages.
debootstrap --variant=minbase bookworm "$work/debian" > /dev/null
chroot "$work/debian" apt-get clean
(cd "$work/debian" && rm -rf var/lib/apt/lists/* var/cache/apt/*.bin usr/share/doc usr/share/man usr/share/locale usr/share/info)
# The certificates by which this machine reaches the packages.
mkdir -p "$work/debian/etc/ssl/certs"
cp "$certificates" "$work/debian$certificates"
tar -C "$work/debian" -c . | docker import --change "ENV NODE_EXTRA_CA_CERTS=$certificates" - debian:stand-in

mkdir "$work/node"
node_version=$(sed -n 's/^    "node": "\([0-9.]*\)",$/\1/p' "$root/package.json")
(cd "$work/node" && npm init --yes > /dev/null && npm install --no-save "node@$node_version" npm@11 > /dev/null)
build node:stand-in "$work/node/node_modules" <<END
FROM debian:stand-in
COPY node/bin/node /usr/local/bin/node
COPY npm /usr/local/lib/node_modules/npm
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
END

mkdir "$work/empty"
build "$(image_of redis)" "$work/empty" <<END
FROM debian:stand-in
RUN apt-get update && apt-get install --yes --no-install-recommends redis-server && mkdir -p /data
END
# RabbitMQ reads RABBITMQ_DEFAULT_USER and the like by itself.
build "$(image_of rabbitmq)" "$work/empty" <<END
FROM debian:stand-in
RUN apt-get update && apt-get install --yes --no-install-recommends rabbitmq-server && rm -rf /var/lib/rabbitmq/* /etc/rabbitmq/*
CMD ["rabbitmq-server"]
END

greenmail=$(image_of greenmail/standalone)
mvn --quiet --batch-mode dependency:copy "-Dartifact=com.icegreen:greenmail-standalone:${greenmail##*:}" "-DoutputDirectory=$work/greenmail"
build "$greenmail" "$work/greenmail" <<END
FROM debian:stand-in
RUN mkdir -p /usr/share/man/man1 && apt-get update && apt-get install --yes --no-install-recommends openjdk-17-jre-headless wget
COPY *.jar /greenmail.jar
CMD ["sh", "-c", "exec java \$JAVA_OPTS \$GREENMAIL_OPTS -jar /greenmail.jar"]
END
echo "ok: the stand-ins are built"
