/** What a CRM of the Creatio family may rely on, call by call: paths, tolerance, answers, and the exact form of what it receives. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as v from "valibot";
import { removeExpired } from "../api/closed-mailboxes.ts";
import { sinceOf } from "../api/routes/creatio/filters.ts";
import { guessOperation, type ListenerPath, parseListenerPath, findOperation } from "../api/routes/creatio/paths.ts";
import { shapeOf } from "../api/routes/creatio/record.ts";
import { readConfig } from "../shared/config.ts";
import { MailboxInput } from "../shared/contract/mailbox.ts";
import { mailboxFromInput } from "../api/mailboxes.ts";
import { narrowMailbox } from "../shared/mail/defaults.ts";
import { parseMessage } from "../shared/mail/mime/message.ts";
import { memoryConnectionSlots } from "../shared/store/memory/connection-slots.ts";
import { callbackUrl } from "../worker/endpoint/creatio/callbacks.ts";
import { type Body, startOfBody } from "../worker/endpoint/body.ts";
import { encodeCreatio } from "../worker/endpoint/creatio/dialect.ts";
import { localMessageLock, clusterMessageLock } from "../worker/endpoint/message-lock.ts";
import { type ApiNode, startApi } from "./api-node.ts";
import { readLoadEmailCommand } from "./servers/crm-contract.ts";
import { message } from "./servers/mail.ts";
import { oddMessages } from "./servers/odd-mail.ts";
import { startImapServer } from "./servers/imap/server.ts";
import { eventually } from "./servers/waiting.ts";

const ID = "0b1c6c0e-1111-4222-8333-944445555666";
const SERVICE = "https://crm.example.com/0/ServiceModel/ExchangeListenerService.svc";

function credentials(more: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    Id: ID,
    SenderEmailAddress: "help@example.com",
    UserName: "help@example.com",
    Password: "s3cret-pass",
    UseOAuth: false,
    ServiceUrl: "imap.example.com",
    ServerTypeId: "844f0837-eaa0-4f40-b965-71f5db9eae6e",
    Port: 993,
    UseSsl: true,
    FolderIds: ["INBOX", "Sent"],
    BpmEndpoint: `${SERVICE}/NewEmail`,
    BpmUser: "Supervisor",
    BpmUserTimeZone: "UTC",
    BpmUserWorkspace: "Default",
    Context: '{"UserRequested":false}',
    ...more,
  };
}

async function withNode(env: Record<string, string>, work: (node: ApiNode) => Promise<void>): Promise<void> {
  const node = await startApi(env);
  try {
    await work(node);
  } finally {
    await node.close();
  }
}

async function ask(node: ApiNode, path: string, body?: unknown, headers: Record<string, string> = {}) {
  const sent =
    body === undefined ? {} : { method: "POST", body: typeof body === "string" ? body : JSON.stringify(body) };
  const type = body === undefined ? {} : { "content-type": "application/json; charset=utf-8" };
  const response = await fetch(node.url + path, { ...sent, headers: { ...type, ...headers } });
  return { status: response.status, type: response.headers.get("content-type") ?? "", text: await response.text() };
}

const stored = async (node: ApiNode) => (await node.store.mailboxes.get(ID))?.mailbox;

const mailboxOf = (url: string) => {
  const receive = { protocol: "imap", host: "h", auth: { user: "u", password: "p" } };
  const creatio = { user: "Supervisor", timeZone: "Russian Standard Time" };
  const deliver = { url, dialect: "creatio", creatio };
  return mailboxFromInput(v.parse(MailboxInput, { id: ID, address: "help@example.com", receive, deliver })).mailbox;
};

const read = (path: string): ListenerPath => {
  const found = parseListenerPath(path);
  assert.ok(found, path);
  return found;
};

const stateStatus = (node: ApiNode, path = "/api/listeners/state", headers = {}) =>
  ask(node, path, [ID], headers).then(({ status }) => status);

const letter = async (raw: Buffer) => ({
  deliveryId: "msg_x",
  mailbox: mailboxOf(`${SERVICE}/NewEmail`),
  ref: { folder: "INBOX", epoch: "1", uid: 1, size: raw.length, receivedAt: "2026-01-05T09:00:00.000Z" },
  flags: [],
  raw,
  parsed: await parseMessage(raw, { maxAttachmentBytes: 1_000_000 }),
});
const textOf = (body: Body) => Buffer.from(startOfBody(body, Infinity)).toString();
const sent = async (raw: Buffer) => encodeCreatio(await letter(raw), new Date());

describe("acceptance: the operations", () => {
  test("1: the status answers under every alias, without access and whatever else is down", () =>
    withNode({ CRM_ACCESS: "closed" }, async (node) => {
      for (const path of ["status", "Status", "exists", "EXISTS/", ""]) {
        const answer = await ask(node, `/api/listeners/${path}`);
        assert.equal(answer.status, 200, path);
        const { ServiceStatus, version } = JSON.parse(answer.text);
        assert.deepEqual([ServiceStatus, version], ["Started", "1.2.3"]);
      }
    }));

  test("2: states are an object, empty for no ids, without the ids nobody registered", () =>
    withNode({}, async (node) => {
      for (const path of ["subscriptionsState", "subscriptions-state", "SUBSCRIPTIONS_STATE", "status", "state/"]) {
        assert.equal((await ask(node, `/api/listeners/${path}`, [])).text, "{}");
        assert.equal((await ask(node, `/api/listeners/${path}`, [ID])).text, "{}");
      }
    }));

  test("3: a mailbox exists as soon as it was recreated, also while its mail server cannot be used", () =>
    withNode({}, async (node) => {
      assert.equal((await ask(node, "/api/listeners/recreate", [credentials()])).status, 200);
      const state = { status: "needs_attention", failedLogins: 3 } as const;
      const known = await node.store.mailboxes.get(ID);
      assert.ok(known);
      await node.store.mailboxes.saveStates([
        { id: ID, revision: known.mailbox.revision, state: { ...known.state, ...state } },
      ]);
      const listed = JSON.parse((await ask(node, "/api/listeners/state", [ID.toUpperCase()])).text);
      assert.equal(listed[ID].State, "exists");
    }));

  test("recreating is idempotent: the same credentials change nothing, others replace everything", () =>
    withNode({}, async (node) => {
      await ask(node, "/api/listeners/create", [credentials()]);
      const first = await stored(node);
      await ask(node, "/api/listeners/recreate", [credentials({ Context: '{"UserRequested":true}' })]);
      const second = await stored(node);
      assert.equal(second?.revision, first?.revision, "a new context restarts no subscription");
      assert.equal(second?.deliver.creatio?.context, '{"UserRequested":true}');
      await ask(node, "/api/listeners/recreate", [credentials({ FolderIds: [], Password: "another" })]);
      const third = await stored(node);
      assert.notEqual(third?.revision, first?.revision);
      assert.equal(third?.receive.protocol === "imap" && third.receive.folders, "all");
    }));

  test("an update with little more than a token keeps the rest", () =>
    withNode({}, async (node) => {
      const oauth = { UseOAuth: true, AccessToken: "one", Password: null };
      await ask(node, "/api/listeners/create", [credentials(oauth)]);
      const short = { Id: ID, SenderEmailAddress: "help@example.com", UserName: "help@example.com", UseOAuth: true };
      assert.equal((await ask(node, "/api/listeners/update", [{ ...short, AccessToken: "two" }])).status, 200);
      const mailbox = await stored(node);
      assert.ok(mailbox && "accessToken" in mailbox.receive.auth);
      assert.equal(mailbox.receive.auth.accessToken.reveal(), "two");
      assert.equal(narrowMailbox(mailbox, "imap").receive.host, "imap.example.com");
      assert.equal(mailbox.deliver.url, `${SERVICE}/NewEmail`);
      assert.equal((await ask(node, "/api/listeners/update", [{ ...short, Id: ID.replace("0b", "0c") }])).status, 404);
    }));

  test("closing ends a CRM's mailbox and forgets its password, and never ends one that was registered by the API", () =>
    withNode({}, async (node) => {
      await ask(node, "/api/listeners/create", [credentials()]);
      assert.equal((await ask(node, "/api/listeners/close", [`{${ID.toUpperCase()}}`])).status, 200);
      const closed = await stored(node);
      assert.ok(closed?.paused && closed.closedAt !== undefined);
      assert.ok("password" in closed.receive.auth && closed.receive.auth.password.reveal() !== "s3cret-pass");
      assert.equal((await ask(node, "/api/listeners/state", [ID])).text, "{}");
      const update = { Id: ID, AccessToken: "t", UseOAuth: true, UserName: "help" };
      assert.equal((await ask(node, "/api/listeners/update", [update])).status, 404);
      const receive = { protocol: "imap", host: "h", auth: { user: "u", password: "p" } };
      const own = { address: "a@example.com", receive, deliver: { url: "https://e.example.com/" } };
      await node.call("PUT", `/api/v1/mailboxes/${ID}`, own);
      await ask(node, "/api/listeners/close", [ID]);
      assert.ok(await stored(node));
      assert.equal((await ask(node, "/api/listeners/recreate", [credentials()])).status, 403);
    }));

  test("a mailbox that was closed long ago is removed, unless the CRM goes on sending from it", () =>
    withNode({}, async (node) => {
      const deps = { ...node, subscriptions: { wake: () => undefined }, facts: { emit: () => undefined } };
      await ask(node, "/api/listeners/create", [credentials()]);
      await ask(node, "/api/listeners/close", [ID]);
      const remove = (before: number) => removeExpired(deps as unknown as Parameters<typeof removeExpired>[0], before);
      await remove(Date.now() - 60_000);
      assert.ok(await stored(node));
      await remove(Date.now() + 60_000);
      assert.equal(await stored(node), undefined);
    }));

  test("a load may come before the subscription: it is ordered, and the state does not claim more", () =>
    withNode({}, async (node) => {
      const Filters = JSON.stringify({ From: "2026-03-01T00:00:00Z" });
      assert.equal(
        (await ask(node, "/api/listeners/synchronize", { Credentials: credentials(), Filters })).status,
        200,
      );
      assert.equal((await ask(node, "/api/listeners/state", [ID])).text, "{}");
      const [task] = await node.tasks(1);
      assert.deepEqual(task?.kind === "synchronize" && [task.mailbox, task.since], [ID, "2026-03-01T00:00:00.000Z"]);
      await ask(node, "/api/listeners/recreate", [credentials()]);
      assert.match((await ask(node, "/api/listeners/state", [ID])).text, /exists/);
      assert.equal((await stored(node))?.paused, false);
    }));

  test("5: the application is available when it takes a call without content, answered by a bare word", () =>
    withNode({}, async (node) => {
      const bodies: string[] = [];
      const { createServer } = await import("node:http");
      const server = createServer((request, response) => {
        request.on("data", (chunk: Buffer) => bodies.push(`${request.url} ${chunk.toString()}`));
        request.on("end", () => response.writeHead(request.url?.endsWith(".svc/ProcessFullEmail") ? 200 : 500).end());
      });
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      const { port } = server.address() as { port: number };
      const url = `http://127.0.0.1:${port}/0/ServiceModel/ExchangeListenerService.svc/NewEmail`;
      const answer = await ask(node, "/api/listeners/applicationAvailable", url);
      assert.deepEqual([answer.status, answer.text], [200, "Pong"]);
      assert.match(answer.type, /^text\/plain/);
      assert.deepEqual(readLoadEmailCommand(bodies[0]?.replace(/^\S+ /, "") ?? "").emails, []);
      server.close();
      server.closeAllConnections();
      assert.notEqual((await ask(node, "/api/listeners/ping", JSON.stringify(url))).text.toLowerCase(), "pong");
    }));

  test("validating logs in: a name for success, the reason and no error status otherwise", () =>
    withNode({}, async (node) => {
      const mail = await startImapServer({ tls: null, users: { help: "s3cret-pass" } });
      try {
        const place = { ServiceUrl: "127.0.0.1", Port: mail.imapPort, UseSsl: false, UserName: "help" };
        const good = JSON.parse((await ask(node, "/api/listeners/validate", credentials(place))).text);
        assert.equal(good.IsValid, true);
        assert.equal(JSON.parse(good.Data).MailboxName, "help@example.com");
        const bad = await ask(node, "/api/listeners/validate", credentials({ ...place, Password: "wrong" }));
        assert.equal(bad.status, 200);
        assert.equal(JSON.parse(bad.text).IsValid, false);
        assert.match(JSON.parse(bad.text).Message, /refused/);
        assert.equal(JSON.parse(bad.text).Data, null);
        const folders = JSON.parse((await ask(node, "/api/mailbox/folders", credentials({ ...place, Id: null }))).text);
        assert.ok(folders.every((one: object) => Object.keys(one).join() === "Id,ParentId,Name"));
        const ids = folders.map(({ Id }: { Id: string }) => Id);
        assert.ok(ids.includes("INBOX") && ids.includes("Sent") && !ids.includes("Drafts"), ids.join());
        const contacts = credentials({ ...place, FolderClassName: "IPF.Contact" });
        assert.equal((await ask(node, "/api/mailbox/folders", contacts)).text, "[]");
      } finally {
        await mail.stop();
      }
    }));

  test("11: members that are unknown, missing, null or of another case are taken", () =>
    withNode({}, async (node) => {
      const odd = {
        id: ID.replaceAll("-", "").toUpperCase(),
        senderemailaddress: "help@example.com",
        PASSWORD: "s3cret-pass",
        serviceUrl: "https://imap.example.com:993/",
        folderids: null,
        BPMENDPOINT: `${SERVICE}/NewEmail`,
        Novelty: { deep: [1] },
      };
      const answer = await ask(node, "/API/Listeners/Re-Create/", [odd]);
      assert.equal(answer.status, 200, answer.text);
      const mailbox = await stored(node);
      assert.ok(mailbox);
      const { host, auth } = narrowMailbox(mailbox, "imap").receive;
      assert.deepEqual([host, auth.user], ["imap.example.com", "help@example.com"]);
    }));

  test("12: no credential, token or body appears in what the service says, recorded or not", () =>
    withNode({ CRM_RECORD: "on" }, async (node) => {
      const secret = credentials({ AccessToken: "t0ken-value", UseOAuth: true });
      await ask(node, "/api/listeners/recreate", [secret]);
      await ask(node, "/api/listeners/no/such/thing", [secret]);
      await ask(node, "/api/listeners/recreate", '{"Password":"s3cret-pass"');
      await ask(node, "/api/listeners/recreate", [{ ...secret, Id: "s3cret-pass" }]);
      const said = JSON.stringify(node.told);
      for (const word of ["s3cret-pass", "t0ken-value", "Supervisor", ID.slice(0, 8)]) {
        const facts = node.told.filter((fact) => JSON.stringify(fact).includes(word));
        // The mailbox's id is how facts name it; nothing else of the request is said.
        assert.ok(word === ID.slice(0, 8) || facts.length === 0, `${word} in ${said}`);
      }
      const recorded = node.told.find((fact) => fact.kind === "creatio.request_recorded");
      assert.ok(recorded?.kind === "creatio.request_recorded");
      assert.match(JSON.stringify(recorded.body), /"list of 1".*"Id":"guid".*"Port":"number"/);
    }));
});

describe("acceptance: what a CRM receives", () => {
  test("6: every member it needs is there for odd and poisonous messages too, read by its own strict reader", async () => {
    for (const [name, build] of Object.entries(oddMessages)) {
      const request = await sent(build());
      assert.doesNotThrow(() => {
        const { emails, info } = readLoadEmailCommand(textOf(request.body));
        assert.equal(emails.length, 1);
        assert.notEqual(emails[0]?.MessageId ?? "", "");
        assert.equal(info.SysAdminUnit, "Supervisor");
      }, name);
    }
  });

  test("6: ticks are an unquoted integer in UTC, headers Name=Value, Content-Ids bare, names harmless", async () => {
    const raw = message({
      from: '"Doe, John" <john@example.com>',
      to: "a@example.com, Bea <b@example.com>",
      date: new Date("2026-02-03T04:05:06Z"),
      html: '<img src="cid:logo@x">',
      headers: { "Auto-Submitted": "auto-replied", "X-Priority": "1" },
      attachments: [
        { filename: "l.png", type: "image/png", content: "png", cid: "logo@x" },
        { filename: "a.pdf", content: "pdf" },
      ],
    });
    const request = await sent(raw);
    const body = textOf(request.body);
    // new DateTime(2026, 2, 3, 4, 5, 6, DateTimeKind.Utc).Ticks
    assert.match(body, /"SendDateTimeStamp":639056883060000000,/);
    const [email] = readLoadEmailCommand(body).emails;
    assert.equal(email?.Sender, "Doe John <john@example.com>");
    assert.deepEqual(email?.Recepients, ["a@example.com", "Bea <b@example.com>"]);
    assert.ok(email?.Headers.includes("Auto-Submitted=auto-replied"));
    assert.equal(email?.Importance, 3);
    const files = new Map(email?.Attachments.map(({ Name, Id, IsInline }) => [Name, { Id, IsInline }]));
    assert.deepEqual(files.get("l.png"), { Id: "logo@x", IsInline: true });
    assert.equal(files.get("a.pdf")?.IsInline, false);
  });

  test("a message without Message-ID has the same one in every mailbox, whatever way it came", async () => {
    const raw = message({ messageId: null, date: new Date("2026-02-03T04:05:06Z"), subject: "Same" });
    const other = Buffer.concat([Buffer.from("Received: from x by y; now\r\nDelivered-To: b@example.com\r\n"), raw]);
    const ids = await Promise.all(
      [raw, other].map(async (one) => readLoadEmailCommand(String((await sent(one)).body)).emails[0]?.MessageId),
    );
    assert.match(ids[0] ?? "", /^<[0-9a-f]{32}@[a-z.-]+>$/);
    assert.equal(ids[0], ids[1]);
  });

  test("7: whatever the callback setting ends in, mail goes to ProcessFullEmail", async () => {
    const wanted = `${SERVICE}/ProcessFullEmail`;
    assert.equal((await sent(message())).url, wanted);
    for (const ending of ["/NewEmail", "/ProcessFullEmail", "/processfullemail?x=1", "", "/"]) {
      assert.equal(callbackUrl(SERVICE + ending, "ProcessFullEmail"), wanted, ending);
    }
    assert.equal(
      callbackUrl("https://x.example.com/a/NewEmail", "RefreshToken"),
      "https://x.example.com/a/RefreshToken",
    );
  });

  test("copies of one message take turns, a second apart after each answer", () => {
    let now = 0;
    const place = localMessageLock(() => now);
    const first = place.tryAcquire("crm <1>");
    assert.ok(first.kind === "go");
    assert.deepEqual(place.tryAcquire("crm <1>"), { kind: "wait", until: new Date(1000) });
    assert.deepEqual(place.tryAcquire("crm <1>"), { kind: "wait", until: new Date(2000) });
    assert.equal(place.tryAcquire("crm <2>").kind, "go");
    now = 500;
    first[Symbol.dispose]();
    now = 1499;
    assert.equal(place.tryAcquire("crm <1>").kind, "wait");
    now = 1500;
    assert.equal(place.tryAcquire("crm <1>").kind, "go");
  });

  test("two workers' copies of one message take turns too, by what they share", async () => {
    const slots = memoryConnectionSlots();
    const [one, other] = [clusterMessageLock(slots, 100), clusterMessageLock(slots, 100)];
    const first = await one.tryAcquire("crm <1>");
    assert.ok(first.kind === "go");
    assert.equal((await other.tryAcquire("crm <1>")).kind, "wait");
    assert.equal((await other.tryAcquire("crm <2>")).kind, "go");
    await first[Symbol.asyncDispose]();
    await eventually(async () => (await other.tryAcquire("crm <1>")).kind === "go", "the other's turn, a moment later");
    assert.equal((await one.tryAcquire("crm <1>")).kind, "wait");
  });
});

describe("paths, shapes and filters", () => {
  test("an unknown path is understood by its words, then by its body, and closing is never guessed from a body", () => {
    const bare = credentials();
    const table: [string, unknown, string | undefined][] = [
      ["/api/v2/mails/dispatch/send-now", { Email: {} }, "send"],
      ["/api/mailbox/getfolderlist", bare, "folders"],
      ["/api/x", "https://crm.example.com", "available"],
      ["/api/x", [ID], "state"],
      ["/api/x", [], "state"],
      ["/api/closeall", [ID], "close"],
      ["/api/x", [bare], "create"],
      ["/api/listeners/recreateall", [bare], "recreate"],
      ["/api/listeners/updatethem", [bare], "update"],
      ["/api/x", { Credentials: bare, Email: {} }, "send"],
      ["/api/x", { Credentials: bare, Filters: "" }, "synchronize"],
      ["/api/x", { Credentials: bare, Ids: ["<1@x>"] }, "fetch"],
      ["/api/x", bare, "validate"],
      ["/api/x", { Novelty: 1 }, undefined],
    ];
    for (const [path, body, operation] of table) {
      assert.equal(findOperation("POST", read(path)), undefined, path);
      assert.equal(guessOperation(read(path), body), operation, path);
    }
    assert.equal(parseListenerPath("/api/v1/mailboxes"), undefined);
    assert.equal(parseListenerPath("/docs"), undefined);
  });

  test("version 2 of sending is told by the path or the query", () => {
    for (const path of ["/api/v2/emails/send", "/api/listeners/2/send", "/api/V2.0/send"])
      assert.ok(read(path).version2);
    assert.equal(read("/api/listeners/send").version2, false);
    assert.equal(parseListenerPath("/api/listeners/send", "?version=2")?.version2, true);
  });

  test("the start of a load is the earliest plausible date in whatever the filter says", () => {
    const now = new Date("2026-06-15T12:00:00Z");
    const since = (Filters: string) => sinceOf({ Credentials: { At: "1999-01-01" }, Filters }, now)?.toISOString();
    assert.equal(since('{"a":"2026-06-10T00:00:00Z","b":"2026-06-12"}'), "2026-06-10T00:00:00.000Z");
    assert.equal(since("\\/Date(1780000000000+0300)\\/"), new Date(1780000000000).toISOString());
    assert.equal(since("ticks 639056883060000000"), "2026-02-03T04:05:06.000Z");
    assert.equal(since("period=2d480351-d1ae-4f41-a0ac-9bd0b1f4d0a5"), "2026-06-08T12:00:00.000Z");
    assert.equal(since("from 2026-06-10 08:00:00"), "2026-06-09T18:00:00.000Z", "without a zone a little too much");
    assert.equal(since("until 9999-12-31"), undefined);
    assert.equal(sinceOf({ LoadFromDate: "2026-06-01T00:00:00Z" }, now)?.toISOString(), "2026-06-01T00:00:00.000Z");
  });

  test("a recorded body shows names and types, and numbers only where an enum is not known", () => {
    const shape = shapeOf([
      { Id: ID, Password: "x", Port: 993, SecureOption: 2, Empty: "", "a@b.c": 1, On: true, No: null },
    ]);
    assert.deepEqual(shape, {
      "list of 1": [
        {
          Id: "guid",
          Password: "string",
          Port: "number",
          SecureOption: "number 2",
          Empty: "empty string",
          "(a key)": "number",
          On: "boolean",
          No: "null",
        },
      ],
    });
  });
});

describe("who may call as a CRM", () => {
  test("by default programs on this machine, and in production nobody without the setting", async () => {
    await withNode({}, async (node) => assert.equal(await stateStatus(node), 200));
    const keys = { ENCRYPTION_KEYS: `k:${Buffer.alloc(32, 1).toString("base64")}`, API_TOKENS: "a-token-for-tests" };
    await withNode({ ...keys, NODE_ENV: "production" }, async (node) => {
      assert.equal(await stateStatus(node), 403);
      assert.equal(await stateStatus(node, undefined, { authorization: "Bearer a-token-for-tests" }), 200);
    });
  });

  test("a segment, a user with password, and a network, each and all together", () =>
    withNode({ CRM_ACCESS: "path:abcdefgh12 basic:crm:passw0rd networks:127.0.0.0/8,::1/128" }, async (node) => {
      const basic = { authorization: `Basic ${Buffer.from("crm:passw0rd").toString("base64")}` };
      assert.equal(await stateStatus(node, "/abcdefgh12/api/listeners/state", basic), 200);
      assert.equal(await stateStatus(node, "/api/listeners/abcdefgh12/state", basic), 200);
      assert.equal(await stateStatus(node, "/api/listeners/abcdefgh12/state"), 401);
      assert.equal(await stateStatus(node, "/api/listeners/abcdefgh13/state", basic), 403);
      assert.equal(await stateStatus(node, "/api/listeners/state", basic), 403);
      await ask(node, "/api/listeners/abcdefgh12/novelty", [ID], basic);
      assert.ok(!JSON.stringify(node.told).includes("abcdefgh12"), "the segment is a secret");
    }));

  test("a network that does not hold the caller keeps it out, and a wrong setting stops the start", async () => {
    await withNode({ CRM_ACCESS: "networks:10.0.0.0/8" }, async (node) => assert.equal(await stateStatus(node), 403));
    await withNode({ CRM_ACCESS: "open" }, async (node) => assert.equal(await stateStatus(node), 200));
    for (const wrong of ["opened", "open closed", "path:short", "networks:10.0.0.0", "basic:u"]) {
      for (const name of ["CRM_ACCESS", "LISTENERS_ACCESS"])
        assert.throws(() => readConfig({ [name]: wrong }), new RegExp(name), wrong);
    }
  });
});
