/** Stories of Exchange mailboxes: what a user is promised, under faults that are really made, counted at the endpoint. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ewsBody, imapBody, PASSWORD, register, toEndpoint } from "./bodies.ts";
import type { Endpoint } from "./servers/endpoint.ts";
import { type Exchange, startExchange } from "./servers/exchange/server.ts";
import { startImapServer } from "./servers/imap/server.ts";
import { message, numbered } from "./servers/mail.ts";
import type { Service } from "./service.ts";
import { nodeBeside, status, subjects } from "./stories/scene.ts";

const ANN = "ann@example.com";
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index);
const subject = (n: number) => `Message ${String(n).padStart(5, "0")}`;
const mail = (n: number, more = {}) => numbered(n, { subject: subject(n), ...more });

type ExchangeStory = {
  service: Service;
  exchange: Exchange;
  endpoint: Endpoint;
  mailbox(changes?: { receive?: object; deliver?: object; wait?: string | null }): Promise<string>;
  put(...numbers: number[]): Promise<string[]>;
};

/** One user, "ann", whose inbox is to be delivered. */
async function told(work: (story: ExchangeStory) => Promise<void>, env: Record<string, string> = {}): Promise<void> {
  const exchange = await startExchange({ tls: true });
  await exchange.addUser(ANN, PASSWORD);
  const settings = { PROBE_SECONDS: "2", FOLDER_POLL_SECONDS: "0.5", ...env };
  const { service, endpoint, end } = await nodeBeside(exchange, settings);
  try {
    await work({
      service,
      exchange,
      endpoint,
      async mailbox({ receive, deliver, wait = "listening" } = {}) {
        // By its host, where all others name its URL.
        const place = { url: undefined, host: "127.0.0.1", port: exchange.port };
        const changes = { receive: { ...place, ...receive }, deliver: { ...toEndpoint(endpoint), ...deliver } };
        const id = await register(service, ewsBody(exchange, ANN, changes));
        if (wait !== null) await status(service, id, wait);
        return id;
      },
      put: (...numbers) =>
        exchange.appendMany(
          ANN,
          "inbox",
          numbers.map((n) => mail(n)),
        ),
    });
  } finally {
    await end();
  }
}

/** No message had two delivery ids. */
function onceEach(endpoint: Endpoint, wanted: string[]): void {
  assert.deepEqual(subjects(endpoint), wanted);
}

describe("a mailbox on Exchange", { timeout: 300_000 }, () => {
  test("its mail is delivered once, also after a resync, and looks like any other", async () => {
    await told(async ({ service, endpoint, exchange, mailbox, put }) => {
      await put(1);
      const id = await mailbox();
      await put(2);
      await endpoint.waitFor(1);
      onceEach(endpoint, [subject(2)]);
      const shown = await service.call("GET", `/api/v1/mailboxes/${id}`);
      const { port, afterDelivery, protocol, auth } = shown.body.receive;
      assert.deepEqual([protocol, port, afterDelivery, auth], ["ews", exchange.port, "leave", { user: ANN }]);
      const { data } = endpoint.received[0]!.json as { data: Record<string, unknown> };
      assert.deepEqual([data["folder"], data["flags"]], ["INBOX", []]);
      const since = new Date(Date.now() - 3_600_000).toISOString();
      assert.equal((await service.call("POST", `/api/v1/mailboxes/${id}/resync`, { since })).status, 202);
      await endpoint.waitFor(2);
      await service.until("the duplicate", () => service.facts.some(({ kind }) => kind === "mail.duplicate"));
      onceEach(endpoint, [subject(1), subject(2)]);
      assert.equal(endpoint.received.length, 2);
      const folders = await service.call("GET", `/api/v1/mailboxes/${id}/folders`);
      assert.ok(
        folders.body.items.some((one: { path: string }) => one.path === "INBOX"),
        JSON.stringify(folders.body),
      );
    });
  });

  test("kill -9 amid a burst: nothing is lost, nothing gets a second delivery id", async () => {
    await told(async ({ service, endpoint, exchange, mailbox, put }) => {
      endpoint.answer(() => ({ delayMs: 20 }));
      const deleted = new Set<string>();
      await mailbox();
      for (const round of range(0, 2)) {
        await put(...range(round * 100 + 1, round * 100 + 100));
        await service.until("some of them", () => endpoint.received.length > round * 100 + 20);
        await service.kill();
        // A number that was given must not come to mean another message.
        for (const { id, subject: removed } of exchange.items(ANN, "inbox").slice(0, 5)) {
          exchange.remove(ANN, id);
          deleted.add(removed);
        }
        await service.start();
      }
      await put(999);
      // What is deleted on the server while nobody listens cannot be fetched any more.
      const wanted = [...range(1, 300), 999].map(subject).filter((one) => !deleted.has(one));
      const missing = () => wanted.filter((one) => !subjects(endpoint).includes(one));
      await service.until("all of them", () => missing().length === 0, 120_000).catch(() => undefined);
      assert.deepEqual(missing(), []);
      assert.equal(new Set(subjects(endpoint)).size, subjects(endpoint).length, "no second delivery id");
    });
  });

  test("a message that is moved between watched folders is not delivered again", async () => {
    await told(async ({ service, endpoint, exchange, mailbox, put }) => {
      await exchange.createFolder(ANN, "Inbox/Orders");
      await mailbox({ receive: { folders: "all" } });
      const [key = ""] = await put(1);
      await endpoint.waitFor(1);
      exchange.move(ANN, key, "Inbox/Orders");
      await service.until("the duplicate", () => service.facts.some(({ kind }) => kind === "mail.duplicate"));
      onceEach(endpoint, [subject(1)]);
    });
  });

  test("sync states that become invalid bring neither replay nor loss", async () => {
    await told(async ({ service, endpoint, exchange, mailbox, put }) => {
      const id = await mailbox();
      await put(...range(1, 30));
      await endpoint.waitFor(30);
      exchange.invalidateSyncStates();
      await put(31);
      await endpoint.waitFor(31);
      await service.stop();
      exchange.invalidateSyncStates();
      exchange.expireSubscriptions();
      await put(32);
      await service.start();
      await status(service, id, "listening");
      await service.until("the new one", () => subjects(endpoint).includes(subject(32)));
      onceEach(endpoint, range(1, 32).map(subject));
      assert.equal(endpoint.received.length, 32);
    });
  });

  test("a server that lost its sync states and shows very many letters as new is not believed: a person decides", async () => {
    await told(async ({ service, endpoint, exchange, mailbox, put }) => {
      const id = await mailbox();
      await put(...range(1, 3));
      await endpoint.waitFor(3);
      await service.stop();
      exchange.invalidateSyncStates();
      await put(...range(4, 133));
      await service.start();
      const { problem } = await status(service, id, "needs_attention");
      assert.equal(problem.code, "confirm");
      assert.match(problem.cause, /INBOX.* 13\d letters/);
      await service.kill();
      await service.start();
      await status(service, id, "needs_attention");
      assert.equal(endpoint.received.length, 3, "it still asks after a restart");
      const answer = await service.call("POST", `/api/v1/mailboxes/${id}/confirm`);
      assert.equal(answer.status, 200, JSON.stringify(answer.body));
      await endpoint.waitFor(133);
      onceEach(endpoint, range(1, 133).map(subject));
      assert.equal(endpoint.received.length, 133);
    });
  });

  test("what was accepted is moved, and never before", async () => {
    await told(
      async ({ service, endpoint, exchange, mailbox, put }) => {
        let refusing = true;
        endpoint.answer(() => (refusing ? { status: 500 } : {}));
        await mailbox({ receive: { afterDelivery: { move: "Inbox/Done" } } });
        await put(...range(1, 3));
        await service.until("second attempts", () => endpoint.requests.length >= 5);
        assert.equal(exchange.items(ANN, "inbox").length, 3, "untouched while refused");
        refusing = false;
        await service.until("an empty inbox", () => exchange.items(ANN, "inbox").length === 0);
        assert.equal(exchange.items(ANN, "Inbox/Done").length, 3);
        onceEach(endpoint, range(1, 3).map(subject));
      },
      { BACKOFF_SCALE: "0.02" },
    );
  });

  for (const format of ["full", "raw"]) {
    test(`what was delivered as ${format} without a file that the server does not give is not deleted`, async () => {
      await told(
        async ({ service, endpoint, exchange, mailbox }) => {
          let refusing = true;
          endpoint.answer(() => (refusing ? { status: 500 } : {}));
          await mailbox({ receive: { afterDelivery: "delete" }, deliver: { format } });
          exchange.faults.always("GetAttachment", { responseCode: "ErrorCannotOpenFileAttachment" });
          const attachments = [{ filename: "one.txt", content: Buffer.from("one") }];
          const key = await exchange.append(ANN, "inbox", message({ subject: "with a file", attachments }));
          exchange.withholdMime(key);
          // The wait in the spool loses nothing of what is known.
          await service.until("a second attempt", () => endpoint.requests.length >= 2);
          refusing = false;
          await service.until("the message to be kept", () =>
            service.facts.some(({ kind, reason }) => kind === "mail.kept" && /"one\.txt"/.test(String(reason))),
          );
          assert.equal(exchange.items(ANN, "inbox").length, 1);
          if (format === "full")
            assert.match(JSON.stringify(endpoint.received[0]?.json), /ErrorCannotOpenFileAttachment/);
        },
        { BACKOFF_SCALE: "0.02" },
      );
    });
  }

  test("it is polled where that is wanted, and what is delivered is read then", async () => {
    await told(async ({ service, endpoint, exchange, mailbox, put }) => {
      await put(1);
      await mailbox({ receive: { since: "2001-01-01", mode: "poll", poll: { everySeconds: 10 } }, wait: "polling" });
      await endpoint.waitFor(1);
      await service.until("the message to be read", () => exchange.items(ANN, "inbox").every(({ isRead }) => isRead));
      assert.ok(!exchange.calls.some(({ operation }) => operation === "Subscribe"));
    });
  });

  test("a server that is busy is left alone as long as it asks, and then goes on", async () => {
    await told(async ({ service, endpoint, exchange, mailbox, put }) => {
      exchange.faults.always("SyncFolderItems", { responseCode: "ErrorServerBusy", backOffMs: 3000 });
      const id = await mailbox({ receive: { since: "2001-01-01" }, wait: "throttled" });
      // Asked again when the time is over, it says a later one: any of them must lie ahead when it is shown.
      await service.until("a time to come back", async () => {
        const asked = Date.now();
        const { body } = await service.call("GET", `/api/v1/mailboxes/${id}`);
        const { problem } = body.state;
        return problem?.code === "throttled" && Date.parse(problem.retryAt) > asked;
      });
      exchange.faults.clear();
      await put(1);
      await endpoint.waitFor(1);
    });
  });

  test("a mailbox that needs a person says why", async () => {
    await told(async ({ service, exchange, mailbox }) => {
      for (const [code, expected] of [
        ["ErrorNonExistentMailbox", "no_mailbox"],
        ["ErrorAccessDenied", "access"],
      ] as const) {
        exchange.faults.always("SyncFolderItems", { responseCode: code });
        const id = await mailbox({ wait: "needs_attention" });
        const { body } = await service.call("GET", `/api/v1/mailboxes/${id}`);
        assert.equal(body.state.problem.code, expected);
        assert.ok(body.state.problem.cause.length > 10 && body.state.problem.fix.length > 10);
        await service.call("DELETE", `/api/v1/mailboxes/${id}`);
        exchange.faults.clear();
      }
    });
  });

  test("a mailbox that moves from an IMAP server to Exchange goes on with what is new", async () => {
    const imap = await startImapServer({ tls: null });
    await imap.addUser("ann", PASSWORD);
    try {
      await told(async ({ service, endpoint, exchange }) => {
        const deliver = toEndpoint(endpoint);
        await register(service, imapBody(imap, "ann", { id: "ann", address: ANN, deliver }));
        await status(service, "ann", "listening");
        const raws = [mail(1), mail(2)];
        await imap.appendMany("ann", "INBOX", raws);
        await endpoint.waitFor(2);
        await exchange.appendMany(ANN, "inbox", [...raws, mail(3)]);
        const moved = await service.call("PUT", "/api/v1/mailboxes/ann", ewsBody(exchange, ANN, { deliver }));
        assert.equal(moved.status, 200, JSON.stringify(moved.body));
        await endpoint.waitFor(3);
        await service.until(
          "duplicates",
          () => service.facts.filter(({ kind }) => kind === "mail.duplicate").length >= 2,
        );
        onceEach(endpoint, range(1, 3).map(subject));
      });
    } finally {
      await imap.stop();
    }
  });
});
