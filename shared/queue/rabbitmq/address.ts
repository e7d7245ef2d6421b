/** The address of RabbitMQ: URLs parsed once. The passwords leave this file only for the login. */
import type { Options } from "amqplib";
import { Problem } from "../../contract/problem.ts";
import { bracketUrl } from "../../contract/url.ts";

/** `redactedUrl` is the address without the password. */
export type RabbitAddress = {
  redactedUrl: string;
  server: { host: string; port: number };
  options: Options.Connect;
};

/** A connection with no traffic for twice this time is closed. */
const HEARTBEAT_SECONDS = 10;

/**
 * Parses `amqp://user:password@host:port/vhost` or `amqps://...`. User, password and vhost are percent-encoded UTF-8; a
 * missing vhost is `/`. Throws a `config` Problem that does not repeat the URL.
 */
export function parseRabbitUrl(text: string): RabbitAddress {
  const url = URL.parse(bracketUrl(text));
  if (!url || !/^amqps?:$/.test(url.protocol) || !url.hostname)
    throw invalidUrl("must look like amqp://user:password@host:5672/vhost");
  const secure = url.protocol === "amqps:";
  const port = url.port === "" ? (secure ? 5671 : 5672) : Number(url.port);
  const vhost = decodePart(url.pathname.slice(1)) || "/";
  const username = decodePart(url.username) || "guest";
  const password = url.username === "" && url.password === "" ? "guest" : decodePart(url.password);
  const hostname = url.hostname.replace(/^\[|\]$/g, "");
  return {
    redactedUrl: `${url.protocol}//${encodeURIComponent(username)}@${url.hostname}:${port}/${encodeURIComponent(vhost)}`,
    server: { host: hostname, port },
    options: {
      protocol: secure ? "amqps" : "amqp",
      hostname,
      port,
      username,
      password,
      // The client decodes the vhost itself.
      vhost: encodeURIComponent(vhost),
      heartbeat: HEARTBEAT_SECONDS,
    },
  };
}

function decodePart(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw invalidUrl("has a percent sign that is not part of an encoded character; write %25 for it");
  }
}

function invalidUrl(how: string): Problem {
  return new Problem("config", `RABBITMQ_URL ${how}`, { retry: "never" });
}
