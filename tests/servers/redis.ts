/** A private redis-server for tests: own port, own folder, stopped, paused and killed like a machine that fails. */
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { ByteReader } from "./imap/reader.ts";
import { freePorts } from "./ports.ts";
import { type Program, removeFolder, startProgram, temporaryFolder } from "./program.ts";
import { eventually } from "./waiting.ts";

export type RedisOptions = {
  /** Writes every command to disk before it answers, so that `kill` loses nothing; on by default. */
  appendOnly?: boolean;
  password?: string;
  /** More settings by name, as in redis.conf. */
  settings?: Record<string, string>;
};

export type Redis = {
  host: string;
  port: number;
  /** Says all that a client needs. */
  url: string;
  /** Runs one command past all clients: `command("GET", "key")`. Rejects with Redis' error. */
  command(...words: string[]): Promise<RedisReply>;
  /** Freezes it: connections stay open, nobody answers. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  stop(): Promise<void>;
  kill(): Promise<void>;
  /** Starts again on the same port with the same files. */
  start(): Promise<void>;
  /** Kills it if it runs, and removes its files. */
  remove(): Promise<void>;
};

export type RedisReply = string | number | null | RedisReply[];

/** Starts a redis-server with no data; resolves once it answers. */
export async function startRedis(options: RedisOptions = {}): Promise<Redis> {
  const folder = await temporaryFolder("redis");
  const [port = 0] = await freePorts(1);
  const url = `redis://${options.password === undefined ? "" : `:${encodeURIComponent(options.password)}@`}127.0.0.1:${port}`;
  let program: Program | undefined;
  const ended = async (end: (one: Program) => Promise<void>): Promise<void> => {
    if (program) await end(program);
    program = undefined;
  };
  const redis: Redis = {
    host: "127.0.0.1",
    port,
    url,
    command: (...words) => redisCommand(url, words),
    pause: async () => program?.signal("SIGSTOP"),
    resume: async () => program?.signal("SIGCONT"),
    stop: () => ended((one) => one.stop()),
    kill: () => ended((one) => one.kill()),
    start: async () => {
      const started = await startProgram("redis-server", redisArguments(port, folder, options));
      program = started;
      await eventually(() => !started.running() || redisAnswers(url), "redis-server to answer", 20_000);
      if (!started.running()) await sleep(100);
      if (!started.running()) throw new Error(`redis-server has ended: ${started.output()}`);
    },
    remove: async () => {
      await ended((one) => one.kill());
      await removeFolder(folder);
    },
  };
  await redis.start();
  return redis;
}

/** Runs one command on a connection of its own; rejects with Redis' error. */
export async function redisCommand(url: string, words: string[]): Promise<RedisReply> {
  const { hostname, port, password, username, pathname } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port || 6379) });
  const reader = new ByteReader();
  socket.on("data", (chunk) => reader.push(chunk));
  socket.on("error", () => socket.destroy());
  socket.on("close", () => reader.end());
  socket.setTimeout(10_000, () => socket.destroy());
  const ask = (command: string[]): Promise<RedisReply> => {
    const parts = command.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`);
    socket.write(`*${command.length}\r\n${parts.join("")}`);
    return reply(reader);
  };
  try {
    const names = username === "" ? [] : [decodeURIComponent(username)];
    if (password !== "") await ask(["AUTH", ...names, decodeURIComponent(password)]);
    if (pathname.length > 1) await ask(["SELECT", pathname.slice(1)]);
    return await ask(words);
  } finally {
    socket.destroy();
  }
}

/** Whether Redis answers at this address and has read its files. */
export function redisAnswers(url: string): Promise<boolean> {
  return redisCommand(url, ["PING"]).then(
    (answer) => answer === "PONG",
    () => false,
  );
}

/** The command line for these options. */
export function redisArguments(port: number, folder: string, options: RedisOptions): string[] {
  const settings: Record<string, string> = {
    port: String(port),
    bind: "127.0.0.1",
    dir: folder,
    daemonize: "no",
    save: "",
    "maxmemory-policy": "noeviction",
    appendonly: options.appendOnly === false ? "no" : "yes",
    appendfsync: "always",
    ...(options.password === undefined ? {} : { requirepass: options.password }),
    ...options.settings,
  };
  return Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
}

// The protocol of Redis, version 2: a type, a length, the content.
async function reply(reader: ByteReader): Promise<RedisReply> {
  const line = (await reader.line())?.toString();
  if (line === undefined) throw new Error("Redis has closed the connection");
  const rest = line.slice(1);
  if (line.startsWith("-")) throw new Error(`Redis refuses: ${rest}`);
  if (line.startsWith(":")) return Number(rest);
  if (line.startsWith("$")) {
    if (Number(rest) < 0) return null;
    const bytes = await reader.bytes(Number(rest) + 2);
    return bytes?.subarray(0, -2).toString() ?? null;
  }
  if (!line.startsWith("*")) return rest;
  if (Number(rest) < 0) return null;
  const replies: RedisReply[] = [];
  while (replies.length < Number(rest)) replies.push(await reply(reader));
  return replies;
}
