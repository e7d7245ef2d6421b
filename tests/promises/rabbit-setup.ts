/** How the service finds and sets up RabbitMQ: addresses, logins, hosts in turn, TLS, and queues that are not as they should be. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Problem } from "../../shared/contract/problem.ts";
import { parseRabbitUrl } from "../../shared/queue/rabbitmq/address.ts";
import { freePorts } from "../servers/ports.ts";
import { eventually } from "../servers/waiting.ts";
import { taskOf, working } from "./queues.ts";
import { namer, type OpenRabbit, openRabbit, optionsFor, type RabbitRig, remembering } from "./rabbit-rig.ts";
import { onBroker } from "./rabbit-tasks.ts";

export function rabbitSetupPromises(rabbit: () => RabbitRig): void {
  const newName = namer();
  const optionsNow = (url = rabbit().url) => {
    const name = newName("quorum");
    return optionsFor(url, name, "quorum");
  };

  describe("the way to RabbitMQ", () => {
    test("a virtual host and a password with any character work, percent-encoded", async () => {
      const { api, host, port } = rabbit();
      const [user, password, vhost] = ["häns@x", 'p@ss:w/ö%41?#[]"&', "mail/ü %"];
      const path = encodeURIComponent(vhost);
      await api("PUT", `/vhosts/${path}`);
      await api("PUT", `/users/${encodeURIComponent(user)}`, { password, tags: "" });
      const all = { configure: ".*", write: ".*", read: ".*" };
      await api("PUT", `/permissions/${path}/${encodeURIComponent(user)}`, all);
      const url = `amqp://${encodeURIComponent(user)}:${encodeURIComponent(password)}@${host}:${port}/${path}`;
      const queue = await openRabbit(optionsNow(url));
      await queue.tasks.send(taskOf("t"));
      assert.equal((await queue.tasks.depth()).ready, 1);
      assert.ok(queue.tasks.description.includes(`${encodeURIComponent(user)}@${host}:${port}/${path}`));
      assert.ok(!queue.tasks.description.includes(encodeURIComponent(password)));
      await queue.close();
      await api("DELETE", `/vhosts/${path}`);
    });

    test("a wrong password and a missing virtual host are named, without the password", async () => {
      const { host, port, url } = rabbit();
      const wrong = await openRabbit(optionsNow(`amqp://guest:not-it@${host}:${port}`), 0);
      const why = await refusal(wrong);
      assert.match(why.message, /refuses the login of amqp:\/\/guest@/);
      assert.ok(!JSON.stringify([why.message, String(why.cause)]).includes("not-it"));
      assert.equal(wrong.away.length, 1);
      await wrong.close();
      const lost = await openRabbit(optionsNow(`${url}/nowhere`), 0);
      assert.match((await refusal(lost)).message, /virtual host of .*nowhere does not exist/);
      await lost.close();
    });

    test("a user whose permissions name each queue of 0.1 works, without a queue for each worker", async () => {
      const { api, host, port } = rabbit();
      const options = optionsNow(`amqp://narrow:key-4711@${host}:${port}`);
      const named = `^${options.queue}(\\.(parked|(delay|turn)\\.[0-9]+))?$`;
      const all = { configure: named, write: named, read: named };
      await api("PUT", "/users/narrow", { password: "key-4711", tags: "" });
      await api("PUT", "/permissions/%2F/narrow", all);
      const warnings: string[] = [];
      const preference = { preferredFor: () => "w1" };
      const narrow = { ...options, preference, onWarning: (about: string) => void warnings.push(about) };
      const queue = await openRabbit(narrow, 20_000, "w1");
      const seen: string[] = [];
      const work = working(queue, remembering(seen));
      await eventually(() => warnings.length > 0, "the warning");
      assert.match(warnings.join(), /does not let this node declare .*\.for\.w1.* permissions for .*\.for\.\*/);
      await queue.tasks.send(taskOf("t"));
      await eventually(() => seen.length === 1, "the task");
      assert.deepEqual([seen, queue.away.length], [["t"], 0]);
      await work.stop();
      await queue.close();

      await api("PUT", "/permissions/%2F/narrow", { ...all, configure: "^$" });
      const refused = await openRabbit(optionsNow(`amqp://narrow:key-4711@${host}:${port}`), 0);
      assert.match((await refusal(refused)).message, /too few permissions: .*refused for user 'narrow'/);
      await refused.close();
    });

    test("an address that cannot be one is refused at once, without repeating it", () => {
      const wrong = ["redis://localhost:6379", "amqp://u:secret%zz@localhost", "localhost"];
      for (const url of wrong) {
        assert.throws(
          () => parseRabbitUrl(url),
          (error: Error) => error.message.startsWith("RABBITMQ_URL ") && !error.message.includes("secret"),
        );
      }
      const { options } = parseRabbitUrl("amqps://[::1]");
      assert.deepEqual(
        [options.protocol, options.hostname, options.port, options.username, options.vhost],
        ["amqps", "::1", 5671, "guest", "%2F"],
      );
    });

    test("several hosts are tried in turn, until one answers", async () => {
      const [dead = 0] = await freePorts(1);
      const options = optionsNow();
      const queue = await openRabbit({ ...options, urls: [`amqp://guest:guest@127.0.0.1:${dead}`, ...options.urls] });
      await queue.tasks.send(taskOf("t"));
      assert.deepEqual([queue.away.length, queue.back.length], [1, 1]);
      assert.equal(queue.tasks.trouble(), null);
      await queue.close();
    });

    test("amqps is spoken to a broker whose CA is given, and to no other", async () => {
      const { tlsPort, ca } = rabbit();
      for (const host of ["localhost", "127.0.0.1"]) {
        const options = optionsNow(`amqps://guest:guest@${host}:${tlsPort}`);
        const queue = await openRabbit({ ...options, ca });
        await queue.tasks.send(taskOf("t"));
        await queue.close();
      }
      const strange = await openRabbit(optionsNow(`amqps://guest:guest@localhost:${tlsPort}`), 0);
      assert.equal((await refusal(strange)).code, "queue");
      await strange.close();
    });

    test("a queue that exists with other arguments is named, with what to do about it", async () => {
      const options = optionsNow();
      await onBroker(options.urls[0], async (channel) => {
        await channel.assertQueue(options.queue, { durable: true });
      });
      const queue = await openRabbit(options, 0);
      const expected = new RegExp(`${options.queue} exists on the broker with other arguments; delete it`);
      assert.match((await refusal(queue)).message, expected);
      // Once somebody has, it goes on by itself.
      await onBroker(options.urls[0], async (channel) => {
        await channel.deleteQueue(options.queue);
      });
      await queue.tasks.ready(20_000);
      await queue.close();
    });

    test("a task that no queue takes is refused, and the queue is declared again", async () => {
      const queue = await openRabbit(optionsNow());
      await onBroker(queue.options.urls[0], async (channel) => {
        await channel.deleteQueue(queue.options.queue);
      });
      await assert.rejects(queue.tasks.send(taskOf("lost")), { code: "queue", retry: "later" });
      await queue.tasks.send(taskOf("kept"));
      const seen: string[] = [];
      const work = working(queue, remembering(seen));
      await eventually(() => seen.length === 1, "the task sent after that");
      await work.stop();
      assert.deepEqual(seen, ["kept"]);
      await queue.close();
    });
  });
}

/** Why there is no connection, as it was told and as whoever waits for one learns it. */
async function refusal(queue: OpenRabbit): Promise<Problem> {
  const told = await eventually(() => queue.away[0], "the refusal", 30_000);
  await assert.rejects(queue.tasks.ready(1), { message: told.message });
  return told;
}
