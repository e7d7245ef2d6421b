/** Stories of Graph mailboxes: what a user is promised, under faults that are really made, counted at the endpoint. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { graphBody, register, toEndpoint } from "./bodies.ts";
import type { Endpoint } from "./servers/endpoint.ts";
import { type GraphServer, startGraphServer } from "./servers/graph/server.ts";
import { message, numbered } from "./servers/mail.ts";
import type { Service } from "./service.ts";
import { nodeBeside, status, subjects } from "./stories/scene.ts";

const ANN = "ann@example.com";
const subject = (n: number) => `Message ${String(n).padStart(5, "0")}`;
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index);

type GraphStory = {
  service: Service;
  server: GraphServer;
  endpoint: Endpoint;
  mailbox(changes?: { receive?: object; wait?: string }): Promise<string>;
  put(...numbers: number[]): Promise<string[]>;
};

/** One user, "ann", whose inbox is to be delivered. */
async function told(work: (story: GraphStory) => Promise<void>): Promise<void> {
  const server = await startGraphServer();
  await server.addUser(ANN);
  const { service, endpoint, end } = await nodeBeside(server, { PROBE_SECONDS: "1", FOLDER_POLL_SECONDS: "0.4" });
  try {
    await work({
      service,
      server,
      endpoint,
      async mailbox({ receive = {}, wait = "polling" } = {}) {
        const changes = { receive, deliver: toEndpoint(endpoint) };
        const id = await register(service, graphBody(server, ANN, changes));
        await status(service, id, wait);
        return id;
      },
      put: (...numbers) =>
        server.appendMany(
          ANN,
          "inbox",
          numbers.map((n) => numbered(n, { subject: subject(n) })),
        ),
    });
  } finally {
    await end();
  }
}

describe("a mailbox by Graph", { timeout: 300_000 }, () => {
  test("its mail is delivered once, also after a resync, with the same delivery id, and marked", async () => {
    await told(async ({ service, server, endpoint, mailbox, put }) => {
      await put(1);
      const id = await mailbox({ receive: { afterDelivery: { keyword: "Taken" } } });
      const [second = ""] = await put(2);
      server.mark(ANN, second, { categories: ["Blue"] });
      // The server gives it other boundaries at each download.
      const parts = message({ subject: subject(3), text: "parts", attachments: [{ filename: "a", content: "b" }] });
      await server.append(ANN, "inbox", parts);
      await endpoint.waitFor(2);
      assert.deepEqual(subjects(endpoint), [subject(2), subject(3)]);
      const { data } = endpoint.received[0]!.json as { data: Record<string, unknown> };
      assert.equal(data["folder"], "INBOX");
      await service.until("the category", () => server.categories(ANN, second).includes("Taken"));
      assert.deepEqual(server.categories(ANN, second).toSorted(), ["Blue", "Taken"]);
      const since = new Date(Date.now() - 3_600_000).toISOString();
      assert.equal((await service.call("POST", `/api/v1/mailboxes/${id}/resync`, { since })).status, 202);
      await endpoint.waitFor(3);
      await service.until(
        "the duplicates",
        () => service.facts.filter(({ kind }) => kind === "mail.duplicate").length >= 2,
      );
      assert.deepEqual(subjects(endpoint).toSorted(), [subject(1), subject(2), subject(3)]);
      assert.equal(endpoint.received.length, 3);
    });
  });

  test("kill -9 amid a burst: nothing is lost, nothing gets a second delivery id", async () => {
    await told(async ({ service, server, endpoint, mailbox, put }) => {
      endpoint.answer(() => ({ delayMs: 20 }));
      await mailbox();
      await put(...range(1, 120));
      await endpoint.waitFor(20);
      await service.kill();
      server.killDeltaTokens("gone");
      await put(...range(121, 140));
      await service.start();
      await service.until("all messages", () => new Set(subjects(endpoint)).size === 140, 120_000);
      const ids = new Map(
        endpoint.received.map(({ json }) => {
          const { data } = json as { data: { deliveryId: string; subject: string } };
          return [`${data.subject} ${data.deliveryId}`, data.subject];
        }),
      );
      assert.equal(ids.size, 140);
      assert.ok(server.mostAtOnce() <= 4, String(server.mostAtOnce()));
    });
  });

  test("a message that Exchange cannot give is shown with its words, and stops no other", async () => {
    await told(async ({ service, server, endpoint, mailbox, put }) => {
      const id = await mailbox();
      const [bad = ""] = await put(1);
      server.refuseContent(bad, { status: 500, code: "ErrorCorruptData", message: "OLE conversion failed" });
      await put(2, 3);
      await endpoint.waitFor(2);
      const problem = await service.until("the problem", async () => {
        const { body } = await service.call("GET", `/api/v1/mailboxes/${id}`);
        return body.state.problem ?? undefined;
      });
      assert.match(problem.cause, /Exchange cannot give this message/);
      assert.match(problem.evidence, /ErrorCorruptData; OLE conversion failed/);
      assert.deepEqual(subjects(endpoint).toSorted(), [subject(2), subject(3)]);
      server.refuseContent(bad, undefined);
      await endpoint.waitFor(3);
    });
  });

  test("a wrong secret needs a person, who reads the fix, and the mail comes after it", async () => {
    await told(async ({ service, server, endpoint, mailbox }) => {
      const { oauth2 } = graphBody(server, ANN).receive.auth as unknown as { oauth2: object };
      const id = await mailbox({
        receive: { auth: { oauth2: { ...oauth2, clientSecret: "the id of the secret" } } },
        wait: "needs_attention",
      });
      const { body } = await service.call("GET", `/api/v1/mailboxes/${id}`);
      assert.equal(body.state.problem.code, "token");
      assert.match(body.state.problem.fix, /value/);
      const headers = { "content-type": "application/merge-patch+json" };
      const patch = { receive: { auth: { oauth2: { clientSecret: server.clientSecret } } } };
      const patched = await service.call("PATCH", `/api/v1/mailboxes/${id}`, patch, headers);
      assert.equal(patched.status, 200, JSON.stringify(patched.body));
      await status(service, id, "polling");
      // A message of the second in which the mailbox was registered counts as older.
      await server.append(ANN, "inbox", numbered(1), { receivedAt: new Date(Date.now() + 1_000) });
      await endpoint.waitFor(1);
    });
  });
});
