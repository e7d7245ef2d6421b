/** Several redis-servers for tests that belong together: a cluster of three, or a master with its replica and a Sentinel. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePorts, freeRow } from "./ports.ts";
import { type Program, removeFolder, startProgram, temporaryFolder } from "./program.ts";
import { redisAnswers, redisArguments, redisCommand } from "./redis.ts";
import { eventually } from "./waiting.ts";

type Member = { port: number; url: string; program: Program; folder: string };

export type RedisGroup = { url: string; members: Member[]; remove(): Promise<void> };

/** Three masters that share the slots; resolves once all of them say that the cluster is whole. */
export async function startRedisCluster(): Promise<RedisGroup> {
  // The bus of the cluster wants 10,000 above the port, so low ports are asked for.
  const base = await freeRow(10_500, 18_500, [0, 1, 2, 10_000, 10_001, 10_002]);
  const settings = { "cluster-enabled": "yes", "cluster-node-timeout": "2000" };
  const members = await Promise.all([0, 1, 2].map((n) => startMember(base + n, settings)));
  const [first] = members;
  const bounds = [0, 5461, 10923, 16384];
  for (const [n, { url }] of members.entries()) {
    await redisCommand(url, ["CLUSTER", "ADDSLOTSRANGE", `${bounds[n]}`, `${(bounds[n + 1] ?? 0) - 1}`]);
    if (n > 0) await redisCommand(url, ["CLUSTER", "MEET", "127.0.0.1", `${first?.port}`]);
  }
  await eventually(
    async () => (await Promise.all(members.map(isWhole))).every(Boolean),
    "the cluster to be whole",
    20_000,
  );
  return { url: `redis+cluster://127.0.0.1:${first?.port}`, members, remove: () => removeAll(members) };
}

/** A master, its replica and a Sentinel that promotes the replica about a second after the master has died. */
export async function startRedisSentinel(): Promise<RedisGroup> {
  const [masterPort = 0, replicaPort = 0, sentinelPort = 0] = await freePorts(3);
  const master = await startMember(masterPort, {});
  const replica = await startMember(replicaPort, { replicaof: `127.0.0.1 ${masterPort}` });
  const linked = async () =>
    String(await redisCommand(replica.url, ["INFO", "replication"])).includes("link_status:up");
  await eventually(linked, "the replica to follow", 20_000);
  const folder = await temporaryFolder("sentinel");
  const config = join(folder, "sentinel.conf");
  const lines = [
    `port ${sentinelPort}`,
    "bind 127.0.0.1",
    `dir ${folder}`,
    `sentinel monitor mail 127.0.0.1 ${masterPort} 1`,
    "sentinel down-after-milliseconds mail 1000",
    "sentinel failover-timeout mail 5000",
  ];
  writeFileSync(config, `${lines.join("\n")}\n`);
  const program = await startProgram("redis-server", [config, "--sentinel"]);
  const url = `redis://127.0.0.1:${sentinelPort}`;
  const sentinel = { port: sentinelPort, url, program, folder };
  const knows = async () =>
    String(await redisCommand(url, ["SENTINEL", "REPLICAS", "mail"])).includes(String(replicaPort));
  await eventually(() => knows().catch(() => false), "the Sentinel to know the replica", 20_000);
  const members = [master, replica, sentinel];
  return { url: `redis+sentinel://127.0.0.1:${sentinelPort}/mail`, members, remove: () => removeAll(members) };
}

async function startMember(port: number, settings: Record<string, string>): Promise<Member> {
  const folder = await temporaryFolder("redis");
  const program = await startProgram(
    "redis-server",
    redisArguments(port, folder, { settings: { appendfsync: "everysec", ...settings } }),
  );
  const url = `redis://127.0.0.1:${port}`;
  await eventually(() => !program.running() || redisAnswers(url), "redis-server to answer", 20_000);
  if (!program.running()) throw new Error(`redis-server has ended: ${program.output()}`);
  return { port, url, program, folder };
}

async function removeAll(members: Member[]): Promise<void> {
  await Promise.all(members.map(({ program }) => program.kill()));
  await Promise.all(members.map(({ folder }) => removeFolder(folder)));
}

async function isWhole({ url }: Member): Promise<boolean> {
  const info = String(await redisCommand(url, ["CLUSTER", "INFO"]));
  return info.includes("cluster_state:ok") && info.includes("cluster_known_nodes:3");
}
