/** The manifests' Redis and RabbitMQ on volumes as Kubernetes mounts them, and what the service says while they are away. */
import assert from "node:assert/strict";
import { chmod, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { connect } from "amqplib";
import { documentsOf, type Manifest } from "./deploy/manifests.ts";
import { mountVolume } from "./deploy/volume.ts";
import { freePorts } from "./servers/ports.ts";
import { type Program, removeFolder, startProgram, temporaryFolder } from "./servers/program.ts";
import { installedOrSkip } from "./servers/provide.ts";
import { type RabbitMq, startRabbitMq } from "./servers/rabbitmq.ts";
import { redisAnswers, redisCommand } from "./servers/redis.ts";
import { eventually } from "./servers/waiting.ts";

/** The pod of a component's StatefulSet, and its first container. */
function podOf(component: string) {
  const documents: Manifest[] = documentsOf(`k8s/components/${component}/${component}.yaml`);
  const pod = documents.find(({ kind }) => kind === "StatefulSet")?.spec.template.spec;
  const [container] = pod.containers;
  return { security: pod.securityContext, command: container.command as string[], container };
}

let bin = "";
before(async () => {
  bin = await temporaryFolder("bin");
});
after(() => removeFolder(bin));

describe("a pod with a volume lives again after it was killed", () => {
  test("RabbitMQ: with the modes that Kubernetes gives, and where a restored volume has an open cookie", async (t) => {
    if (!(await installedOrSkip(t, "rabbitmq"))) return;
    const { security, command } = podOf("rabbitmq");
    const cookieModes: number[] = [];
    let policy = security.fsGroupChangePolicy;
    const rabbit: RabbitMq = await startRabbitMq({
      async command(start, folder) {
        await mountVolume(folder, { ...security, fsGroupChangePolicy: policy });
        cookieModes.push((await stat(join(folder, ".erlang.cookie"))).mode & 0o777);
        await writeFile(join(bin, "docker-entrypoint.sh"), `#!/bin/sh\n${start}`);
        await chmod(join(bin, "docker-entrypoint.sh"), 0o755);
        const [sh = "", c = "", script = ""] = command;
        return [sh, c, `PATH="${bin}:$PATH"; ${script.replaceAll("/var/lib/rabbitmq", folder)}`];
      },
    });
    t.after(() => rabbit.remove());
    await withChannel(rabbit, async (channel) => {
      await channel.assertQueue("kept", { durable: true });
      channel.sendToQueue("kept", Buffer.from("still here"), { persistent: true });
      await channel.waitForConfirms();
    });
    // The root of the volume is right now, so its files stay as they are.
    for (const next of [policy, "Always"]) {
      await rabbit.kill();
      policy = next;
      await rabbit.start();
      await withChannel(rabbit, async (channel) => {
        const message = await channel.get("kept");
        assert.equal(message && message.content.toString(), "still here");
      });
    }
    assert.deepEqual(
      cookieModes.map((mode) => mode.toString(8)),
      ["660", "400", "660"],
    );
  });

  test("Redis", async (t) => {
    if (!(await installedOrSkip(t, "redis"))) return;
    const { security, command } = podOf("redis");
    const folder = await temporaryFolder("volume");
    const [port = 0] = await freePorts(1);
    const url = `redis://:p%40ss%2F@127.0.0.1:${port}`;
    let program: Program | undefined;
    t.after(async () => {
      await program?.kill();
      await removeFolder(folder);
    });
    const start = async (policy: string) => {
      await mountVolume(folder, { ...security, fsGroupChangePolicy: policy });
      const [sh = "", c = "", script = ""] = command;
      const here = script.replace("--dir /data", `--port ${port} --bind 127.0.0.1 --dir ${folder}`);
      assert.notEqual(here, script);
      program = await startProgram(sh, [c, here], { env: { REDIS_PASSWORD: "p@ss/" } });
      await eventually(() => redisAnswers(url), "Redis to answer");
    };
    await start(security.fsGroupChangePolicy);
    await redisCommand(url, ["CONFIG", "SET", "appendfsync", "always"]);
    await redisCommand(url, ["SET", "kept", "still here"]);
    for (const policy of [security.fsGroupChangePolicy, "Always"]) {
      await program?.kill();
      await start(policy);
      assert.equal(await redisCommand(url, ["GET", "kept"]), "still here");
    }
  });
});

type ConfirmChannel = Awaited<ReturnType<Awaited<ReturnType<typeof connect>>["createConfirmChannel"]>>;

async function withChannel(rabbit: RabbitMq, work: (channel: ConfirmChannel) => Promise<void>): Promise<void> {
  const connection = await connect(rabbit.url);
  try {
    await work(await connection.createConfirmChannel());
  } finally {
    await connection.close();
  }
}
