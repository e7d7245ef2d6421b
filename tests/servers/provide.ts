/**
 * Provides a test with the servers it needs, from wherever they can be had: an address in the environment, Docker, a
 * program on this machine, a package installed on the spot (Debian, as root). Otherwise the test is skipped, in one
 * clear line.
 *
 * | environment              | meaning                                                                            |
 * | ------------------------ | ---------------------------------------------------------------------------------- |
 * | REDIS_URL                | redis://[[user]:password@]host:port of a Redis that tests may write to              |
 * | RABBITMQ_URL             | amqp://user:password@host:port of a RabbitMQ where this user may make virtual hosts |
 * | RABBITMQ_MANAGEMENT_PORT | the port of its management interface, 15672 if not set                              |
 * | TEST_GREENMAIL           | the host of a GreenMail with its usual test ports (3143, 3110, 3025, API 8080)       |
 * | TEST_DOVECOT             | the path of a Dovecot 2.3 program; tests change its users and kill it, so no address |
 * | GREENMAIL_JAR            | the path of greenmail-standalone.jar                                               |
 * | TEST_CHROMIUM            | the path of a Chromium program                                                      |
 * | TESTS_WITHOUT_DOCKER     | 1: as if there were no Docker                                                       |
 * | TESTS_MUST_NOT_SKIP      | 1: a missing server is an error, as it must be in continuous integration            |
 */
import { type Chromium, chromiumSource } from "./chromium.ts";
import { dockerAnswers } from "./container.ts";
import type { Dovecot, DovecotOptions } from "./dovecot.ts";
import type { GreenMail } from "./greenmail.ts";
import { canInstall, installPackages } from "./install.ts";
import type { RabbitMq } from "./rabbitmq.ts";
import type { Redis, RedisOptions } from "./redis.ts";
import { dovecotSource, greenMailSource, rabbitMqSource, redisSource, type Source } from "./sources.ts";

/** The servers by name, each with its options. */
export type Services = {
  redis: { server: Redis; options: RedisOptions };
  rabbitmq: { server: RabbitMq; options: { config?: string } };
  dovecot: { server: Dovecot; options: DovecotOptions };
  greenmail: { server: GreenMail; options: { users?: Record<string, string> } };
  chromium: { server: Chromium; options: Record<string, never> };
};

export type ServiceName = keyof Services;

/** A server and where it came from; one from the environment cannot be stopped, paused or killed. */
export type Provided<Server> = { how: "environment" | "docker" | "local" | "package"; server: Server };

/** The part of node:test's context that skipping needs; bun and deno have it too. */
export type TestContext = { skip(message?: string): void; after(work: () => Promise<void>): void };

type Sources = { [Name in ServiceName]: Source<Services[Name]["server"], Services[Name]["options"]> };

const SOURCES: Sources = {
  redis: redisSource,
  rabbitmq: rabbitMqSource,
  dovecot: dovecotSource,
  greenmail: greenMailSource,
  chromium: chromiumSource,
};

/**
 * Finds or starts the server; `owned` asks for one that the test may stop and kill, so none from the environment.
 * Undefined when there is none; then the reason was printed. Whoever asks ends it by `server.remove()`.
 */
export async function provide<Name extends ServiceName>(
  name: Name,
  options: Services[Name]["options"] = {},
  { owned = false } = {},
): Promise<Provided<Services[Name]["server"]> | undefined> {
  const source: Source<Services[Name]["server"], Services[Name]["options"]> = SOURCES[name];
  if (!owned) {
    const server = await source.environment(options);
    if (server) return { how: "environment", server };
  }
  if (source.docker && (await dockerAnswers())) return { how: "docker", server: await source.docker(options) };
  if (await source.found()) return { how: "local", server: await source.start(options) };
  if (await canInstall()) {
    await source.install(installPackages);
    if (await source.found()) return { how: "package", server: await source.start(options) };
  }
  const why = `${name} is not here: ${source.missing}`;
  if (process.env["TESTS_MUST_NOT_SKIP"]) throw new Error(why);
  console.log(`Skipped: ${why}`);
  return undefined;
}

/** Whether the programs of a server are on this machine, installed if they can be. Otherwise says why in one line. */
export async function isInstalled(name: ServiceName): Promise<boolean> {
  const { found, install, missing } = SOURCES[name];
  if (!(await found()) && (await canInstall())) await install(installPackages);
  if (await found()) return true;
  const why = `${name} is not on this machine: ${missing}`;
  if (process.env["TESTS_MUST_NOT_SKIP"]) throw new Error(why);
  console.log(`Skipped: ${why}`);
  return false;
}

/**
 * Gets onto this machine what a start of the server needs, and says where the server will come from. It starts none but a container,
 * which fetches the image.
 */
export async function makeReady(name: ServiceName): Promise<string | undefined> {
  const source = SOURCES[name];
  const elsewhere = await source.environment({});
  const container = !elsewhere && source.docker && (await dockerAnswers()) ? await source.docker({}) : undefined;
  await (elsewhere ?? container)?.remove();
  if (elsewhere) return "the environment";
  if (container) return "Docker";
  return (await isInstalled(name)) ? "this machine" : undefined;
}

/** As `provide`, inside a test: skips it when there is no server, and removes the server when the test is over. */
export async function provideOrSkip<Name extends ServiceName>(
  context: TestContext,
  name: Name,
  options: Services[Name]["options"] = {},
  wish: { owned?: boolean } = {},
): Promise<Services[Name]["server"] | undefined> {
  const provided = await provide(name, options, wish);
  if (!provided) {
    context.skip(`no ${name}`);
    return undefined;
  }
  context.after(() => provided.server.remove());
  return provided.server;
}

/** A Dovecot for one test: `const dovecot = await dovecotOrSkip(t); if (!dovecot) return;` */
export function dovecotOrSkip(context: TestContext, options: DovecotOptions = {}): Promise<Dovecot | undefined> {
  return provideOrSkip(context, "dovecot", options);
}

/** A GreenMail for one test. */
export function greenMailOrSkip(
  context: TestContext,
  options: Services["greenmail"]["options"] = {},
): Promise<GreenMail | undefined> {
  return provideOrSkip(context, "greenmail", options);
}

/** A Redis for one test; `owned` if it shall be killed. */
export function redisOrSkip(
  context: TestContext,
  options: RedisOptions = {},
  wish: { owned?: boolean } = {},
): Promise<Redis | undefined> {
  return provideOrSkip(context, "redis", options, wish);
}

/** A RabbitMQ for one test; `owned` if it shall be killed. */
export function rabbitMqOrSkip(
  context: TestContext,
  options: Services["rabbitmq"]["options"] = {},
  wish: { owned?: boolean } = {},
): Promise<RabbitMq | undefined> {
  return provideOrSkip(context, "rabbitmq", options, wish);
}
