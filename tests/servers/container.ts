/** Servers in Docker, started by testcontainers and then driven by their id: on ports that outlast a restart. */
import { GenericContainer, Wait } from "testcontainers";
import { freePorts } from "./ports.ts";
import { run } from "./program.ts";
import { eventually } from "./waiting.ts";

export type ContainerOptions = {
  image: string;
  /** The ports inside, by the name they are asked for with. */
  ports: Record<string, number>;
  environment?: Record<string, string>;
  command?: string[];
  /** Files to put in before the start: path and text. */
  files?: { target: string; content: string }[];
  /** Whether the server inside works; asked after each start. */
  ready(host: string, ports: Record<string, number>): Promise<boolean>;
};

export type Container = {
  host: string;
  /** The ports outside, by name. */
  ports: Record<string, number>;
  pause(): Promise<void>;
  resume(): Promise<void>;
  stop(): Promise<void>;
  kill(): Promise<void>;
  start(): Promise<void>;
  remove(): Promise<void>;
};

/** Whether a Docker engine answers within three seconds; TESTS_WITHOUT_DOCKER=1 says no. */
export async function dockerAnswers(): Promise<boolean> {
  if (process.env["TESTS_WITHOUT_DOCKER"]) return false;
  return run("docker", ["info"], { timeoutMs: 3000 }).then(
    () => true,
    () => false,
  );
}

/** Starts a container; resolves once the server inside is ready. */
export async function startContainer(options: ContainerOptions): Promise<Container> {
  const names = Object.keys(options.ports);
  const outside = await freePorts(names.length);
  const ports = Object.fromEntries(names.map((name, index) => [name, outside[index] ?? 0]));
  const bindings = names.map((name) => ({ container: options.ports[name] ?? 0, host: ports[name] ?? 0 }));
  const definition = new GenericContainer(options.image)
    .withExposedPorts(...bindings)
    .withEnvironment(options.environment ?? {})
    .withCopyContentToContainer(options.files ?? [])
    .withStartupTimeout(120_000)
    .withWaitStrategy(Wait.forListeningPorts());
  if (options.command) definition.withCommand(options.command);
  const started = await definition.start();
  const host = started.getHost();
  const docker = async (verb: string): Promise<void> => void (await run("docker", [verb, started.getId()]));
  const ready = async (): Promise<void> =>
    void (await eventually(() => options.ready(host, ports), `${options.image} to be ready`, 120_000, 200));
  await ready();
  return {
    host,
    ports,
    pause: () => docker("pause"),
    resume: () => docker("unpause"),
    stop: () => docker("stop"),
    kill: () => docker("kill"),
    start: async () => {
      await docker("start");
      await ready();
    },
    remove: async () => void (await started.stop({ timeout: 0 })),
  };
}
