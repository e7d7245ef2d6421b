/** Stories of polled mailboxes: what a user is promised, under faults that are really made, counted at the endpoint. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { PASSWORD, popBody, register, toEndpoint } from "./bodies.ts";
import type { Endpoint } from "./servers/endpoint.ts";
import { message, numbered } from "./servers/mail.ts";
import { type Pop3Faults, type Pop3Server, startPop3Server } from "./servers/pop3.ts";
import type { Service } from "./service.ts";
import { look, nodeBeside, scene, status, subjectOf, subjects } from "./stories/scene.ts";

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index);
const subject = (n: number) => `Message ${String(n).padStart(5, "0")}`;
const mail = (n: number, more = {}) => numbered(n, { subject: subject(n), ...more });

type Post = { type: string; part?: Record<string, unknown>; data: Record<string, any> };
const bodyOf = (request: { json: unknown }) => request.json as Post;

type PopScene = {
  service: Service;
  pop: Pop3Server;
  endpoint: Endpoint;
  mailbox(changes?: { receive?: object; deliver?: object; wait?: boolean }): Promise<string>;
  end(): Promise<void>;
};

/** One user, "ann", whose whole maildrop is to be delivered. */
async function popScene(env: Record<string, string> = {}, faults: Pop3Faults = {}): Promise<PopScene> {
  const pop = await startPop3Server(faults);
  pop.addUser("ann", PASSWORD);
  const { service, endpoint, end } = await nodeBeside(pop, env);
  return {
    service,
    pop,
    endpoint,
    end,
    async mailbox({ receive, deliver, wait = true } = {}) {
      const wanted = popBody(pop, "ann", { receive: receive ?? {}, deliver: { ...toEndpoint(endpoint), ...deliver } });
      const id = await register(service, wanted);
      if (wait) await status(service, id, "polling");
      return id;
    },
  };
}

async function told(pop: PopScene, work: (pop: PopScene) => Promise<void>): Promise<void> {
  try {
    await work(pop);
  } finally {
    await pop.end();
  }
}

describe("a mailbox by POP3", () => {
  test("its mail is delivered once, and left on the server", async () => {
    await told(await popScene(), async ({ service, pop, endpoint, mailbox }) => {
      pop.add("ann", mail(1));
      const id = await mailbox();
      await endpoint.waitFor(1);
      pop.add("ann", mail(2));
      await look(service, id);
      await endpoint.waitFor(2);
      await status(service, id, "polling");
      assert.deepEqual(subjects(endpoint), [subject(1), subject(2)]);
      assert.equal(endpoint.repeats.length, 0);
      assert.equal(pop.messages("ann").length, 2);
      const { body } = await service.call("GET", `/api/v1/mailboxes/${id}`);
      assert.equal(body.receive.port, pop.tlsPort);
      assert.equal(body.receive.afterDelivery, "leave");
      assert.equal(body.state.status, "polling");
    });
  });

  for (const pipelining of [true, false])
    test(`a server that answers UIDL 7 and LIST 7 with its whole list gives all its mail, ${pipelining ? "with" : "without"} pipelining`, async () => {
      const faults = { ignoreNumbers: true, noPipelining: !pipelining };
      await told(await popScene({}, faults), async ({ service, pop, endpoint, mailbox }) => {
        for (const n of range(1, 5)) pop.add("ann", mail(n), `id${n}`);
        pop.faults.leaveOutOfBothLists = "id3";
        const id = await mailbox({ receive: { afterDelivery: "delete" } });
        await endpoint.waitFor(4);
        await service.until("the deletion", () => pop.messages("ann").length === 1);
        delete pop.faults.leaveOutOfBothLists;
        pop.add("ann", mail(6));
        await look(service, id);
        await endpoint.waitFor(6);
        await service.until("the rest to be deleted", () => pop.messages("ann").length === 0);
        assert.deepEqual(subjects(endpoint), range(1, 6).map(subject));
        assert.equal(endpoint.repeats.length, 0);
        assert.ok(service.facts.every(({ kind }) => kind !== "mail.download_failed"));
      });
    });

  for (const kept of [0, 1]) {
    test(`a server that gives all but ${kept} messages other ids has nothing delivered again`, async () => {
      await told(await popScene(), async ({ service, pop, endpoint, mailbox }) => {
        const date = new Date(Date.now() - 3_600_000);
        for (const n of range(1, 4)) pop.add("ann", mail(n, { date }), `first${n}`);
        const id = await mailbox();
        await endpoint.waitFor(4);
        for (const one of pop.messages("ann").slice(kept)) one.uidl = `other-${one.uidl}`;
        pop.add("ann", mail(5));
        await look(service, id);
        await service.until("the duplicates", () => {
          const found = service.facts.filter(({ kind }) => kind === "mail.duplicate");
          return found.length >= 4 - kept;
        });
        await endpoint.waitFor(5);
        assert.deepEqual(subjects(endpoint), range(1, 5).map(subject));
        assert.equal(endpoint.received.length, 5);
      });
    });
  }

  const DECISIONS = {
    confirm: { body: undefined, delivered: 132 },
    resync: { body: { since: new Date(Date.now() + 86_400_000).toISOString() }, delivered: 2 },
  };
  for (const [path, { body, delivered }] of Object.entries(DECISIONS))
    test(`a moved server that shows very many letters as new is not believed: a person decides (${path})`, async () => {
      await told(await popScene(), async ({ service, pop, endpoint, mailbox }) => {
        const date = new Date(Date.now() - 30 * 86_400_000);
        for (const n of range(1, 130)) pop.add("ann", mail(n, { date }));
        const id = await mailbox({ receive: { since: "now" } });
        await new Promise((resolve) => setTimeout(resolve, 1_100));
        pop.add("ann", mail(131));
        await look(service, id);
        await endpoint.waitFor(1);
        const trace = `Received: from old.example by new.example; ${new Date().toUTCString()}\r\n`;
        for (const one of pop.messages("ann"))
          Object.assign(one, { uidl: `moved-${one.uidl}`, raw: Buffer.concat([Buffer.from(trace), one.raw]) });
        await look(service, id);
        const { problem } = await status(service, id, "needs_attention");
        assert.equal(problem.code, "confirm");
        assert.match(problem.cause, /13\d letters/);
        await service.kill();
        await service.start();
        await status(service, id, "needs_attention");
        assert.equal(endpoint.received.length, 1, "it still asks after a restart");
        const answer = await service.call("POST", `/api/v1/mailboxes/${id}/${path}`, body);
        assert.ok(answer.status < 300, JSON.stringify(answer.body));
        await status(service, id, "polling");
        pop.add("ann", mail(132));
        await look(service, id);
        await endpoint.waitFor(delivered);
        assert.equal(subjects(endpoint).filter((one) => one === subject(131)).length, 1);
        assert.ok(subjects(endpoint).includes(subject(132)));
        assert.equal(endpoint.received.length, delivered);
      });
    });

  test("a message is deleted from the server only after the endpoint accepted it", async () => {
    await told(await popScene({ BACKOFF_SCALE: "0.02" }), async ({ service, pop, endpoint, mailbox }) => {
      endpoint.answer((r) => (r.earlier < 2 ? { status: 500 } : {}));
      for (const n of range(1, 3)) pop.add("ann", mail(n));
      await mailbox({ receive: { afterDelivery: "delete" } });
      await service.until("second attempts", () => endpoint.requests.length >= 5);
      assert.equal(pop.messages("ann").length, 3, "untouched while refused");
      await endpoint.waitFor(3);
      await service.until("the maildrop to be empty", () => pop.messages("ann").length === 0);
      assert.deepEqual(subjects(endpoint), range(1, 3).map(subject));
    });
  });

  test("deletion after days waits for its time", async () => {
    await told(await popScene(), async ({ service, pop, endpoint, mailbox }) => {
      pop.add("ann", mail(1));
      await mailbox({ receive: { afterDelivery: { deleteAfterDays: 3 / 86_400 } } });
      await endpoint.waitFor(1);
      const deliveredAt = endpoint.received[0]?.at ?? Infinity;
      await service.until("the message to be deleted", () => pop.messages("ann").length === 0);
      assert.ok(Date.now() - deliveredAt >= 2_900, `after ${Date.now() - deliveredAt} ms`);
    });
  });

  test("kill -9 between the delivery and QUIT: nothing is lost, nothing gets a second delivery id", async () => {
    await told(await popScene(), async ({ service, pop, endpoint, mailbox }) => {
      for (const n of range(1, 20)) pop.add("ann", mail(n));
      pop.faults.dropAt = "QUIT";
      await mailbox({ receive: { afterDelivery: "delete" }, wait: false });
      await endpoint.waitFor(20);
      await service.until("a deletion that is not committed", () =>
        pop.commands.some((line) => line.startsWith("DELE")),
      );
      await service.kill();
      delete pop.faults.dropAt;
      assert.equal(pop.messages("ann").length, 20);
      pop.add("ann", mail(21));
      await service.start();
      await endpoint.waitFor(21);
      await service.until("the maildrop to be empty", () => pop.messages("ann").length === 0, 60_000);
      assert.deepEqual(subjects(endpoint), range(1, 21).map(subject));
      assert.equal(new Set(endpoint.requests.map(({ id }) => id)).size, 21);
    });
  });

  test("a message that was picked up is kept whole: gone from the server it is retried, parked and replayed", async () => {
    const settings = { BACKOFF_SCALE: "0.01", RETRY_HOURS: "0.001" };
    await told(await popScene(settings), async ({ service, pop, endpoint, mailbox }) => {
      endpoint.answer(() => ({ status: 503 }));
      pop.add("ann", mail(1), "only");
      const id = await mailbox();
      await service.until("a first attempt", () => endpoint.requests.length > 0);
      pop.remove("ann", "only");
      const fetched = () => pop.commands.filter((line) => line.startsWith("RETR")).length;
      const parked = await service.until("the delivery to be parked", async () => {
        const { body } = await service.call("GET", `/api/v1/deliveries?state=parked&mailbox=${id}`);
        return body.total === 1 && body.items[0];
      });
      const raw = await service.call("GET", `/api/v1/messages/${parked.id}/raw`);
      assert.match(String(raw.body), /X-Number: 1/);
      endpoint.answer(() => ({}));
      await service.call("POST", `/api/v1/deliveries/${parked.id}/replay`);
      await endpoint.waitFor(1);
      assert.equal(fetched(), 1, "it was downloaded once");
      assert.deepEqual(
        endpoint.received.map((request) => request.id),
        [parked.id],
      );
    });
  });

  test("a server that fails is tried again each minute, however long the interval, until it works", async () => {
    // A minute lasts 60 ms here, the hour of the interval stays an hour.
    await told(await popScene({ BACKOFF_SCALE: "0.001" }), async ({ service, pop, endpoint, mailbox }) => {
      pop.add("ann", mail(1));
      pop.faults.refuseLogin = "[SYS/TEMP] not now";
      const id = await mailbox({ receive: { poll: { cron: "0 * * * *", timeZone: "Europe/Berlin" } }, wait: false });
      await service.until("many tries", () => pop.logins.length >= 9);
      const waits = service.facts
        .filter(({ kind }) => kind === "mailbox.disconnected")
        .map(({ at, retryAt }) => Date.parse(String(retryAt)) - Date.parse(at));
      assert.ok(Math.max(...waits) <= 61, `${Math.max(...waits)} ms, which stand for seconds`);
      delete pop.faults.refuseLogin;
      await endpoint.waitFor(1);
      const tries = pop.logins.length;
      await status(service, id, "polling");
      await new Promise((resolve) => setTimeout(resolve, 500));
      assert.ok(pop.logins.length <= tries + 1, "and then it rests until the next run");
    });
  });

  for (const [processLock, count] of [
    [false, 5_000],
    [true, 2_000],
  ] as const) {
    test(`${count} messages that arrive while it is picked are delivered once each, process lock ${processLock}`, async () => {
      await told(await popScene(), async ({ service, pop, endpoint, mailbox }) => {
        for (const n of range(1, 1_000)) pop.add("ann", mail(n));
        const adding = (async () => {
          for (const n of range(1_001, count)) {
            pop.add("ann", mail(n));
            if (n % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 50));
          }
        })();
        await mailbox({ receive: { processLock, afterDelivery: "delete" }, deliver: { split: {} }, wait: false });
        await adding;
        await endpoint.waitFor(count, 240_000);
        assert.deepEqual(subjects(endpoint), range(1, count).map(subject));
        assert.equal(endpoint.repeats.length, 0);
        await service.until("the maildrop to be empty", () => pop.messages("ann").length === 0, 60_000);
        assert.equal(pop.open().refusedAsInUse, 0, "never two sessions at a time");
      });
    });
  }
});

describe("what is delivered", () => {
  const nested = numbered(7, { subject: "Inside" });
  const letter = () =>
    message({
      subject: "With files",
      text: "The body",
      attachments: [
        { filename: "a.pdf", type: "application/pdf", content: Buffer.from("%PDF-1.4") },
        { filename: "b.txt", type: "text/plain", content: "second" },
        { filename: "c.eml", type: "message/rfc822", content: nested },
      ],
    });

  test("split: the body and each attachment on their own, joined by the delivery id", async () => {
    await told(await popScene(), async ({ pop, endpoint, mailbox }) => {
      pop.add("ann", letter());
      await mailbox({ deliver: { split: { body: true, attachments: true } } });
      await endpoint.waitFor(4);
      const posts = endpoint.received.map((request) => ({ id: request.id, ...bodyOf(request) }));
      const [first] = posts;
      assert.ok(endpoint.received.every(({ verified }) => verified));
      assert.ok(posts.every(({ type }) => type === "message.part"));
      assert.deepEqual(
        posts.map(({ id, part }) => [id, part?.["index"], part?.["count"], part?.["kind"], part?.["filename"]]),
        [
          [`${first?.data["deliveryId"]}-0`, 0, 4, "body", null],
          [`${first?.data["deliveryId"]}-1`, 1, 4, "attachment", "a.pdf"],
          [`${first?.data["deliveryId"]}-2`, 2, 4, "attachment", "b.txt"],
          [`${first?.data["deliveryId"]}-3`, 3, 4, "attachment", posts[3]?.part?.["filename"]],
        ],
      );
      assert.equal(first?.data["text"].trim(), "The body");
      assert.ok(first?.data["attachments"].every((file: { content: unknown }) => file.content === null));
      const [pdf] = posts[1]?.data["attachments"] ?? [];
      assert.deepEqual([Buffer.from(pdf.content, "base64").toString(), posts[1]?.data["text"]], ["%PDF-1.4", null]);
      assert.deepEqual([posts[1]?.part?.["contentType"], posts[1]?.part?.["size"]], ["application/pdf", 8]);
      assert.equal(posts[3]?.part?.["contentType"], "message/rfc822");
      const inner = Buffer.from(posts[3]?.data["attachments"][0].content, "base64").toString();
      assert.match(inner, /Subject: Inside/);
    });
  });

  test("a part that was accepted is not posted again when another is refused, and nothing is deleted before the last", async () => {
    await told(await popScene({ BACKOFF_SCALE: "0.02" }), async ({ service, pop, endpoint, mailbox }) => {
      endpoint.answer((r) => (r.id.endsWith("-2") && r.earlier < 2 ? { status: 500 } : {}));
      pop.add("ann", letter());
      await mailbox({ receive: { afterDelivery: "delete" }, deliver: { split: {} } });
      await service.until("the third part to be refused", () => endpoint.requests.some((r) => r.responded === 500));
      const { body } = await service.call("GET", "/api/v1/deliveries?state=retrying");
      if (body.total > 0) assert.match(body.items[0].reason, /part 2 of 4/);
      assert.equal(pop.messages("ann").length, 1);
      await endpoint.waitFor(4);
      assert.deepEqual(
        range(0, 3).map((index) => endpoint.requests.filter(({ id }) => id.endsWith(`-${index}`)).length),
        [1, 1, 3, 1],
      );
      await service.until("the message to be deleted", () => pop.messages("ann").length === 0);
    });
  });

  test("either half can be switched off, not both, and not for other formats", async () => {
    await told(await popScene(), async ({ service, pop, endpoint, mailbox }) => {
      pop.add("ann", letter());
      pop.add("ann", mail(1));
      const id = await mailbox({ deliver: { split: { body: false } } });
      await endpoint.waitFor(3);
      assert.deepEqual(
        endpoint.received.map((request) => bodyOf(request).part?.["index"]),
        [0, 1, 2],
      );
      await service.until("the message without files to be left out", () =>
        service.facts.some(({ kind, rule }) => kind === "mail.filtered" && /split/.test(String(rule))),
      );
      for (const deliver of [{ split: { attachments: false } }, { split: { body: true }, format: "raw" }]) {
        const { status: code, body } = await service.call("PATCH", `/api/v1/mailboxes/${id}`, { deliver });
        assert.deepEqual([code, body.errors?.[0].path], [422, "deliver.split"]);
      }
    });
  });

  test("filters leave messages out, count them, and say which rule did it", async () => {
    await told(await popScene(), async ({ service, pop, endpoint, mailbox }) => {
      pop.add("ann", mail(1));
      pop.add("ann", mail(2, { from: "Spam <offers@SPAM.example>" }));
      pop.add("ann", mail(3, { bytes: 200_000, messageId: "<large@example.com>" }));
      pop.add("ann", mail(4, { headers: { "Auto-Submitted": "auto-replied" } }));
      pop.add("ann", mail(5, { attachments: [{ filename: "a.txt", content: "x" }] }));
      pop.add("ann", mail(6, { date: new Date("2020-01-01") }));
      pop.add("ann", mail(7, { subject: "[Ticket 5] Message 00007" }));
      const id = await mailbox({
        receive: {
          filters: {
            exclude: [
              { from: ["*@spam.example"] },
              { largerThanBytes: 100_000 },
              { automatic: true },
              { hasAttachment: true },
              { olderThanDays: 30 },
              { subject: "[ticket ?]*" },
            ],
          },
        },
      });
      const filtered = await service.until("six messages to be left out", async () => {
        const { body } = await service.call("GET", `/api/v1/mailboxes/${id}/events?kind=mail.filtered`);
        return body.items.length === 6 && body.items;
      });
      await endpoint.waitFor(1);
      assert.deepEqual(subjects(endpoint), [subject(1)]);
      const rules = filtered.map(({ rule }: { rule: string }) => rule.slice(0, 10)).toSorted();
      assert.deepEqual(
        rules,
        range(0, 5).map((index) => `exclude[${index}]`),
      );
      const large = filtered.find(({ rule }: { rule: string }) => rule.includes("largerThanBytes"));
      assert.equal(large.messageId, "<large@example.com>");
      assert.equal(pop.commands.filter((line) => line.startsWith("RETR")).length, 6, "the large one is not downloaded");
      const { body: metrics } = await service.call("GET", "/metrics");
      assert.match(metrics, /deliveries_total\{outcome="filtered"\} 6/);
    });
  });
});

describe("the settings of a polled mailbox", () => {
  test("are checked by their protocol, each error with its field", async () => {
    await told(await popScene(), async ({ service, pop, mailbox }) => {
      const id = await mailbox();
      const errors = async (receive: object) => {
        const { body } = await service.call("PATCH", `/api/v1/mailboxes/${id}`, { receive });
        return Object.fromEntries((body.errors ?? []).map(({ path, message: words }: any) => [path, words]));
      };
      assert.match((await errors({ folders: ["INBOX"] }))["receive.folders"], /not known/);
      assert.match((await errors({ mode: "push" }))["receive.mode"], /must be poll/);
      assert.match((await errors({ afterDelivery: "markRead" }))["receive.afterDelivery"], /leave, delete/);
      assert.match((await errors({ poll: { cron: "often" } }))["receive.poll.cron"], /five fields/);
      assert.match(
        (await errors({ poll: { cron: "* * * * *", timeZone: "Nowhere" } }))["receive.poll.timeZone"],
        /time zone/,
      );
      assert.match((await errors({ poll: { everySeconds: 5 } }))["receive.poll.everySeconds"], /at least 10/);
      assert.match((await errors({ protocol: "pop" }))["receive.protocol"], /imap, pop3/);
      assert.match((await errors({ filters: { exclude: [{ form: "x" }] } }))["receive.filters.exclude.0.form"], /from/);
      assert.deepEqual(await errors({ poll: { cron: "*/5 * * * *" }, processLock: true }), {});
      assert.deepEqual(await errors({ poll: { everySeconds: 30 }, afterDelivery: { deleteAfterDays: 30 } }), {});
      const nowhere = popBody({ tlsPort: 1, ca: pop.ca }, "a");
      const report = await service.call("POST", "/api/v1/mailboxes/validate", nowhere);
      const failed = report.body.steps.filter(({ ok }: any) => !ok).map(({ name }: any) => name);
      assert.deepEqual([report.status, failed], [200, ["deliver", "tcp"]]);
    });
  });
});

describe("a mailbox by IMAP that is polled", () => {
  test("delivers what it finds and marks it as read, nothing before it was accepted", async () => {
    const s = await scene({ BACKOFF_SCALE: "0.02" });
    try {
      await s.mail.addUser("polled", PASSWORD);
      await s.mail.append("polled", "INBOX", mail(1));
      s.endpoint.answer((r) => (r.earlier < 2 ? { status: 500 } : {}));
      const receive = { mode: "poll", poll: { everySeconds: 10 }, since: "2001-01-01" };
      const { id } = await s.mailbox({ user: "polled", known: true, receive, wait: false });
      await s.service.until("a second attempt", () => s.endpoint.requests.length >= 2);
      assert.deepEqual([...(await s.mail.flags("polled", "INBOX")).values()], [[]]);
      await s.endpoint.waitFor(1);
      await s.service.until("the message to be marked", async () =>
        [...(await s.mail.flags("polled", "INBOX")).values()].every((flags) => flags.includes("\\Seen")),
      );
      await s.mail.append("polled", "INBOX", mail(2));
      await look(s.service, id);
      await s.endpoint.waitFor(2, 30_000);
      assert.equal((await status(s.service, id, "polling")).problem, null);
      assert.ok(!s.mail.commands.some(({ name }) => name === "IDLE"));
      assert.deepEqual(s.endpoint.received.map(subjectOf), [subject(1), subject(2)]);
    } finally {
      await s.end();
    }
  });
});
