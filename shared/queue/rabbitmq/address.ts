/** Where the broker is: its URLs read once, with passwords that never leave this file but for the login. */
import type { Options } from "amqplib";
import { Problem } from "../../contract/problem.ts";

/** `shown` is the address without the password. */
export type RabbitAddress = { shown: string; options: Options.Connect };

/** A peer that says nothing for twice this long is gone. */
const HEARTBEAT_SECONDS = 10;

/**
 * Reads `amqp://user:password@host:port/vhost` or `amqps://...`; user, password and vhost are percent-encoded UTF-8, a missing
 * vhost is `/`. Throws a `config` Problem that does not repeat the URL.
 */
export function rabbitAddress(text: string): RabbitAddress {
  const url = URL.parse(text);
  if (!url || !/^amqps?:$/.test(url.protocol) || !url.hostname)
    throw wrong("must look like amqp://user:password@host:5672/vhost");
  const secure = url.protocol === "amqps:";
  const port = url.port === "" ? (secure ? 5671 : 5672) : Number(url.port);
  const vhost = decoded(url.pathname.slice(1)) || "/";
  const username = decoded(url.username) || "guest";
  const password = url.username === "" && url.password === "" ? "guest" : decoded(url.password);
  const hostname = url.hostname.replace(/^\[|\]$/g, "");
  return {
    shown: `${url.protocol}//${encodeURIComponent(username)}@${url.hostname}:${port}/${encodeURIComponent(vhost)}`,
    options: {
      protocol: secure ? "amqps" : "amqp",
      hostname,
      port,
      username,
      password,
      // The client decodes this one itself.
      vhost: encodeURIComponent(vhost),
      heartbeat: HEARTBEAT_SECONDS,
    },
  };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw wrong("has a percent sign that is not part of an encoded character; write %25 for it");
  }
}

function wrong(how: string): Problem {
  return new Problem("config", `RABBITMQ_URL ${how}`, { retry: "never" });
}
