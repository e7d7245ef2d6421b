/** Sending through Graph: nothing twice, no false "sent", large files in pieces, and what is refused. */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import type { MailboxOf } from "../shared/contract/mailbox.ts";
import { asProblem } from "../shared/contract/problem.ts";
import type { SendRequest } from "../shared/mail/outgoing.ts";
import { getRatePerMinute, openSendSession, runSendStep, type SendingDeps } from "../shared/mail/sending.ts";
import { graphBody, register, toEndpoint } from "./bodies.ts";
import { graphDeps, graphMailboxOn } from "./promises/graph-rig.ts";
import { type GraphServer, startGraphServer } from "./servers/graph/server.ts";
import { message } from "./servers/mail.ts";
import { nodeBeside, status } from "./stories/scene.ts";
import { sendingBy } from "./stories/outgoing.ts";

const { signal } = new AbortController();
const deps = (): SendingDeps => graphDeps({ timeouts: { command: 400 } });
const SETTINGS = { saveSent: "auto", perHour: 500, notify: false, allowSelf: false } as const;

describe("A mailbox that sends by Graph", () => {
  let server: GraphServer;
  let user: string;
  let users = 0;
  before(async () => {
    server = await startGraphServer({ behaviour: { transportMs: 20 } });
  });
  beforeEach(async () => {
    user = `user${++users}`;
    await server.addUser(user);
    server.sent.length = 0;
  });
  afterEach(() => server.faults.clear());
  after(() => server.stop());

  const mailbox = (): MailboxOf<"graph"> => ({ ...graphMailboxOn(server, user), send: SETTINGS });
  const letter = (more: Parameters<typeof message>[0] = {}) =>
    message({ from: server.addressOf(user), to: "bob@example.net", subject: "Hello", ...more });
  const order = (raw = letter(), to = ["bob@example.net"]): SendRequest => {
    return { id: "snd_1", from: server.addressOf(user), to, raw, dsn: null, save: true, stepwise: false };
  };
  const send = async (request = order()) => {
    const session = await openSendSession(deps(), mailbox(), signal);
    const announced: string[][] = [];
    try {
      const result = await session.send(request, async (accepted) => void announced.push(accepted), signal);
      return { ...result, announced };
    } finally {
      session.close();
    }
  };
  const stateOf = async (work: ReturnType<typeof send>) => (await work).recipients.map(({ state }) => state);
  const drafts = () => server.count(user, "drafts");

  test("hands a message over once, to hidden recipients too, and files it in Sent Items", async () => {
    const raw = letter();
    const { recipients, serverMessageId, announced } = await send(
      order(raw, ["bob@example.net", "secret@example.net"]),
    );
    assert.deepEqual(
      recipients.map(({ state }) => state),
      ["sent", "sent"],
    );
    assert.deepEqual(announced, [["bob@example.net", "secret@example.net"]]);
    const [sent] = server.sent;
    assert.deepEqual(sent?.recipients.toSorted(), ["bob@example.net", "secret@example.net"]);
    assert.ok(!sent?.raw.includes("secret@example.net"));
    assert.equal(serverMessageId, null, "the server kept the Message-ID");
    assert.deepEqual([server.sent.length, await drafts(), await server.count(user, "sentitems")], [1, 0, 1]);
    assert.equal(getRatePerMinute(mailbox()), 28);
  });

  test("reports the Message-ID that the server gave instead", async () => {
    server.behaviour.replacesMessageIds = true;
    const { serverMessageId } = await send();
    server.behaviour.replacesMessageIds = false;
    assert.equal(serverMessageId, server.sent[0]?.messageId);
  });

  test("knows that a message was sent whose answer was lost, and that another was not", async () => {
    server.faults.once("sendDraft", { cut: "after" });
    assert.deepEqual(await stateOf(send()), ["sent"]);
    assert.equal(server.sent.length, 1);
    server.faults.once("sendDraft", { after: { status: 504, body: "" } });
    assert.deepEqual(await stateOf(send()), ["sent"]);
    assert.equal(server.sent.length, 2);
    server.faults.once("sendDraft", { cut: "before" });
    const problem = await send().then(() => undefined, asProblem);
    assert.deepEqual([problem?.code, problem?.retry, server.sent.length], ["unavailable", "later", 2]);
    assert.equal(await drafts(), 0, "the draft that was not sent is gone");
    assert.deepEqual(await stateOf(send()), ["sent"]);
    assert.equal(server.sent.length, 3);
  });

  test("does not take a message for a draft because an old view of the mailbox shows one", async () => {
    const old = { after: { status: 200, body: JSON.stringify({ isDraft: true }) } };
    server.faults.always("getMessage", old);
    assert.deepEqual(await stateOf(send()), ["sent"]);
    assert.deepEqual([server.sent.length, await server.count(user, "sentitems")], [1, 1], "with its copy");
    server.faults.once("move", { cut: "after" });
    assert.deepEqual(await stateOf(send()), ["unknown"]);
    assert.equal(server.sent.length, 2);
  });

  test("says unknown when nobody can tell", async () => {
    server.faults.once("sendDraft", { cut: "after" });
    server.faults.always("getMessage", { status: 503, code: "ServiceUnavailable" });
    const [recipient] = (await send()).recipients;
    assert.equal(recipient?.state, "unknown");
    assert.match(recipient?.response ?? "", /no answer came/);
    assert.equal(server.sent.length, 1);
  });

  test("leaves no draft behind when it cannot be completed, and begins anew after a lost answer", async () => {
    const raw = letter();
    server.faults.once("createDraft", { cut: "after" });
    assert.ok(await send(order(raw)).then(() => undefined, asProblem));
    assert.equal(await drafts(), 1);
    assert.deepEqual(await stateOf(send(order(raw))), ["sent"]);
    assert.deepEqual([server.sent.length, await drafts()], [1, 0]);
    server.faults.once("updateMessage", { status: 500, code: "ErrorInternalServerError" }, { times: 4 });
    assert.ok(await send(order(letter(), ["bob@example.net", "c@example.net"])).then(() => undefined, asProblem));
    assert.equal(await drafts(), 0);
  });

  test("sends large files in pieces without the token, and small ones beside them", async () => {
    const big = Buffer.alloc(4_400_000, "0123456789abcdef\n");
    const small = Buffer.alloc(1_000_000, "small\n");
    const attachments = [
      { filename: "big.bin", content: big },
      { filename: "small.bin", content: small },
    ];
    assert.deepEqual(await stateOf(send(order(letter({ attachments })))), ["sent"]);
    const raw = server.sent[0]?.raw.toString("latin1") ?? "";
    for (const { filename } of attachments) assert.ok(raw.includes(filename), filename);
    const text = raw.replaceAll(/\s/g, "");
    assert.ok(text.includes(big.toString("base64").slice(0, 400)));
    assert.ok(server.uploadRequests.length === 2 && server.uploadRequests.every((one) => one.status < 300));
  });

  test("sends with the permission Mail.Send alone, and is honest about what it cannot know", async () => {
    const { permissions } = server.application;
    server.application.permissions = ["Mail.Send", "Mail.ReadBasic.All"];
    try {
      assert.deepEqual(await stateOf(send(order(letter(), ["bob@example.net", "secret@example.net"]))), [
        "sent",
        "sent",
      ]);
      assert.ok(!server.sent[0]?.raw.includes("secret@example.net"));
      server.faults.once("sendMail", { cut: "after" });
      assert.deepEqual(await stateOf(send()), ["unknown"]);
      const large = letter({ attachments: [{ filename: "a", content: Buffer.alloc(3_000_000) }] });
      const problem = await send(order(large)).then(() => undefined, asProblem);
      assert.deepEqual([problem?.code, problem?.retry], ["refused", "never"]);
      assert.match(problem?.fix ?? "", /Mail\.ReadWrite/);
      const step = await runSendStep(deps(), mailbox(), signal);
      assert.ok(step.ok && /no drafts/.test(step.detail ?? ""), JSON.stringify(step));
    } finally {
      server.application.permissions = permissions;
    }
  });

  test("is tried in a preflight without sending anything", async () => {
    const step = await runSendStep(deps(), mailbox(), signal);
    assert.ok(step.ok, JSON.stringify(step));
    server.application.permissions = ["Mail.ReadWrite"];
    const denied = await runSendStep(deps(), mailbox(), signal);
    server.application.permissions = ["Mail.ReadWrite", "Mail.Send", "User.Read.All"];
    assert.equal(denied.ok, false);
    assert.match(denied.fix ?? "", /Mail\.Send/);
    assert.deepEqual([server.sent.length, await drafts()], [0, 0]);
  });

  test("waits where Graph asks to slow down, and gives up a message that Exchange refuses", async () => {
    server.faults.once("sendDraft", { status: 429, code: "ApplicationThrottled", retryAfter: "0.3" });
    assert.deepEqual(await stateOf(send()), ["sent"]);
    assert.equal(server.sent.length, 1);
    server.faults.once("sendDraft", { status: 400, code: "ErrorInvalidRecipients" });
    const refused = await send().then(() => undefined, asProblem);
    assert.deepEqual([refused?.code, refused?.retry], ["refused", "never"]);
    const other = letter({ from: "boss@example.com" });
    const problem = await send(order(other)).then(() => undefined, asProblem);
    assert.deepEqual([problem?.code, problem?.retry], ["sender", "never"], JSON.stringify(problem?.view()));
    assert.equal(await drafts(), 0);
  });
});

test(
  "a service sends by Graph, also when it is killed amid the work, and never twice",
  { timeout: 240_000 },
  async () => {
    const server = await startGraphServer({ behaviour: { transportMs: 20 } });
    await server.addUser("ann@example.com");
    const { service, endpoint, end } = await nodeBeside(server, {
      COMMAND_TIMEOUT_SECONDS: "2",
      BACKOFF_SCALE: "0.01",
    });
    try {
      const changes = { send: {}, deliver: toEndpoint(endpoint) };
      const id = await register(service, graphBody(server, "ann@example.com", changes));
      await status(service, id, "polling");
      const { send } = sendingBy(service);
      const subjects = Array.from({ length: 8 }, (_, n) => `Letter ${n}`);
      const accepted = await Promise.all(
        subjects.map((subject) => send(id, { to: ["bob@example.net"], subject, text: "Hello" })),
      );
      await service.until("the first", () => server.sent.length > 0);
      await service.kill();
      await service.start();
      const settled = async () => {
        const answers = await Promise.all(
          accepted.map(({ body }) => service.call("GET", `/api/v1/messages/${body.id}`)),
        );
        const items: { state: string }[] = answers.map(({ body }) => body);
        return items.every(({ state }) => state !== "queued") && items;
      };
      const items = await service.until("every result", settled, 120_000);
      const counts = subjects.map(
        (subject) => server.sent.filter(({ raw }) => raw.includes(`Subject: ${subject}\r\n`)).length,
      );
      assert.ok(
        counts.every((count) => count <= 1),
        `sent ${counts.join(" ")} times`,
      );
      const lost = items.filter(({ state }) => state !== "sent" && state !== "unknown");
      assert.deepEqual(lost, []);
      assert.ok(items.filter(({ state }) => state === "sent").length <= counts.filter((count) => count === 1).length);
    } finally {
      await end();
    }
  },
);
