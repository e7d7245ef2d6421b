/** Redis and RabbitMQ over TLS, their certificates signed by an authority of one's own. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { openBackends } from "../shared/backends.ts";
import { readConfig } from "../shared/config.ts";
import { backoffs } from "../shared/time.ts";
import { clusterRig, expect } from "./cluster-rig.ts";
import { type Certificates, type KeyPair, makeCertificates } from "./servers/certificates.ts";
import { freePorts } from "./servers/ports.ts";
import { type RabbitMq, startRabbitMq } from "./servers/rabbitmq.ts";
import { type Redis, startRedis } from "./servers/redis.ts";

const folder = mkdtempSync(join(tmpdir(), "email-listener-tls-"));
const key = `k1:${Buffer.alloc(32, 5).toString("base64")}`;
let certificates: Certificates;
let caFile: string;
let redis: Redis;
let rabbit: RabbitMq;
let redisPort = 0;
let rabbitPort = 0;

function written(name: string, { cert, key: secret }: KeyPair) {
  const [certFile, keyFile] = [join(folder, `${name}.cert.pem`), join(folder, `${name}.key.pem`)];
  writeFileSync(certFile, cert);
  writeFileSync(keyFile, secret);
  return { certFile, keyFile };
}

function redisWith(pair: { certFile: string; keyFile: string }, port: number): Promise<Redis> {
  const settings = {
    "tls-port": String(port),
    "tls-cert-file": pair.certFile,
    "tls-key-file": pair.keyFile,
    "tls-ca-cert-file": caFile,
    "tls-auth-clients": "no",
  };
  return startRedis({ settings });
}

before(
  async () => {
    certificates = await makeCertificates();
    caFile = join(folder, "ca.pem");
    writeFileSync(caFile, certificates.ca);
    const good = written("good", certificates.server);
    [redisPort = 0, rabbitPort = 0] = await freePorts(2);
    redis = await redisWith(good, redisPort);
    const config = `
listeners.ssl.1 = 127.0.0.1:${rabbitPort}
ssl_options.cacertfile = ${caFile}
ssl_options.certfile = ${good.certFile}
ssl_options.keyfile = ${good.keyFile}
ssl_options.verify = verify_none
`;
    rabbit = await startRabbitMq({ config });
  },
  { timeout: 120_000 },
);

after(async () => {
  await rabbit.remove();
  await redis.remove();
  rmSync(folder, { recursive: true });
});

const open = (env: Record<string, string>) =>
  openBackends({
    name: "node",
    config: readConfig({ ENCRYPTION_KEYS: key, ...env }),
    emit: () => undefined,
    backoff: backoffs(1),
  });

describe("backends over TLS", () => {
  test("a node and a worker work over rediss:// and amqps://, told whom to trust by a file or by its text", async () => {
    const rig = await clusterRig({
      redisUrl: `rediss://localhost:${redisPort}`,
      rabbitUrl: `amqps://guest:guest@localhost:${rabbitPort}`,
      env: { REDIS_CA: caFile, RABBITMQ_CA: certificates.ca },
    });
    try {
      const api = await rig.api("a");
      await rig.worker("w");
      const [box = ""] = await rig.register(api, 1);
      await api.until(
        "the mailbox to be listened to",
        async () =>
          expect(await api.call("GET", `/api/v1/mailboxes/${box}`), 200).state.status === "listening" || undefined,
      );
      await rig.send(box);
      await rig.arrived();
      const { items, tasks } = expect(await api.call("GET", "/api/v1/nodes"), 200);
      assert.equal(items.length, 2);
      assert.ok(tasks.consumers > 0, "tasks travel over the broker");
    } finally {
      await rig.end();
    }
  });

  test("an address instead of a name works where the certificate names it", async () => {
    const backends = await open({ REDIS_URL: `rediss://127.0.0.1:${redisPort}`, REDIS_CA: caFile });
    await backends.store.ping();
    await backends.close();
  });

  test("without the authority a node refuses to start, at once, and names the setting", async () => {
    const refused = open({ REDIS_URL: `rediss://localhost:${redisPort}` });
    await assert.rejects(refused, { code: "config", message: /REDIS_CA/ });
  });

  test("a certificate for another name, or one that has expired, is not accepted", async () => {
    for (const pair of [certificates.wrongName, certificates.expired]) {
      const [port = 0] = await freePorts(1);
      const server = await redisWith(written("bad", pair), port);
      try {
        const refused = open({ REDIS_URL: `rediss://localhost:${port}`, REDIS_CA: caFile });
        await assert.rejects(refused, { code: "config", message: /certificate of Redis is not trusted/ });
      } finally {
        await server.remove();
      }
    }
  });

  test("a broker that is not trusted is told as a warning that names the setting, as any broker that is away", async () => {
    const redisUrl = { REDIS_URL: `rediss://localhost:${redisPort}`, REDIS_CA: caFile };
    const backends = await open({ ...redisUrl, RABBITMQ_URL: `amqps://guest:guest@localhost:${rabbitPort}` });
    assert.match(backends.warnings.join(), /RABBITMQ_CA/);
    await backends.close();
  });

  test("a file that cannot be read, or holds no certificate, is named", async () => {
    const empty = join(folder, "empty.pem");
    writeFileSync(empty, "nothing\n");
    for (const file of [empty, join(folder, "missing.pem")]) {
      const refused = open({ REDIS_URL: `rediss://localhost:${redisPort}`, REDIS_CA: file });
      await assert.rejects(refused, (error: Error) => error.message.startsWith(`REDIS_CA: the file ${file}`));
    }
  });

  test("a private key given by mistake is refused and not shown", async () => {
    const refused = open({ REDIS_URL: `rediss://localhost:${redisPort}`, REDIS_CA: certificates.server.key });
    await assert.rejects(refused, { code: "config", message: "REDIS_CA: holds no certificate in PEM" });
  });
});
