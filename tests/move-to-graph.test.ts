/** Stories of mailboxes that move from Exchange Web Services to Graph: fakes of both servers have the same mail. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { ewsBody, PASSWORD, register, toEndpoint } from "./bodies.ts";
import { savedMails, startCrm } from "./servers/crm.ts";
import type { Endpoint } from "./servers/endpoint.ts";
import { type Exchange, startExchange } from "./servers/exchange/server.ts";
import { type Mirror, mirrored } from "./servers/graph/mirror.ts";
import { type GraphServer, startGraphServer } from "./servers/graph/server.ts";
import { message } from "./servers/mail.ts";
import { type Service, TOKEN } from "./service.ts";
import { nodeBeside, status, subjects } from "./stories/scene.ts";

const COMMAND = fileURLToPath(new URL("../api/cli/cli.ts", import.meta.url));
/** Exchange Web Services recognise 200 messages of a folder by their ids. */
const MORE_THAN_REMEMBERED = 240;
const EXCHANGE_TYPE = "3490BD45-4F4D-4613-AA06-454546F3342A";
const RUNTIME = "deno" in process.versions ? ["run", "-A", "--no-check"] : [];

describe("a mailbox moves from Exchange Web Services to Graph", { timeout: 300_000 }, () => {
  let exchange: Exchange;
  let graph: GraphServer;
  let service: Service;
  let endpoint: Endpoint;
  let end: () => Promise<void>;
  before(async () => {
    [exchange, graph] = await Promise.all([startExchange(), startGraphServer()]);
    const settings = { PROBE_SECONDS: "1", FOLDER_POLL_SECONDS: "0.4", COMMAND_TIMEOUT_SECONDS: "5" };
    ({ service, endpoint, end } = await nodeBeside(exchange, settings));
    const { root: graphUrl, tokenRoot, tenant, clientId, clientSecret } = graph;
    const tokenUrl = `${tokenRoot}/${tenant}/oauth2/v2.0/token`;
    const application = { provider: "microsoft", tenant, clientId, clientSecret, graphUrl, tokenUrl };
    assert.equal((await service.call("PUT", "/api/v1/applications/contoso", application)).status, 201);
  });
  after(async () => {
    await end();
    await graph.stop();
  });

  /** A mailbox with the folder Orders in both servers, received by Exchange. */
  const mailboxOf = async (name: string): Promise<Mirror> => {
    const address = `${name}@example.com`;
    await exchange.addUser(address, PASSWORD);
    await exchange.createFolder(address, "Orders");
    await exchange.append(address, "inbox", letter(`${name} before everything`), {
      receivedAt: new Date(Date.now() - 3_600_000),
    });
    const mirror = await mirrored(exchange, graph, address, ["Orders"]);
    const receive = { folders: ["INBOX", "Orders"] };
    await register(service, ewsBody(exchange, address, { id: name, receive, deliver: toEndpoint(endpoint), send: {} }));
    await status(service, name, "listening");
    return mirror;
  };
  const move = (id: string, body: object) => service.call("POST", `/api/v1/mailboxes/${id}/move-to-graph`, body);
  const cli = (...args: string[]) =>
    new Promise<{ code: number; out: string }>((resolve) => {
      const env = { ...process.env, EMAIL_LISTENER_URL: service.url, EMAIL_LISTENER_TOKEN: TOKEN };
      execFile(process.execPath, [...RUNTIME, COMMAND, ...args], { env, timeout: 60_000 }, (error, out) =>
        resolve({ code: typeof error?.code === "number" ? error.code : error ? -1 : 0, out }),
      );
    });
  const arrived = (...wanted: string[]) =>
    service.until(wanted.join(), () => wanted.every((one) => subjects(endpoint).includes(one)), 60_000);
  /** Each subject as often as it was delivered under another id. */
  const ofMailbox = (name: string) => subjects(endpoint).filter((one) => one.startsWith(`${name} `));
  const settingsOf = async (id: string) => (await service.call("GET", `/api/v1/mailboxes/${id}`)).body;

  test("with its cursors: nothing is lost, and nothing is delivered twice", async () => {
    const mirror = await mailboxOf("ann");
    await mirror.append("inbox", letter("ann one"));
    await mirror.append("Orders", letter("ann two"));
    await arrived("ann one", "ann two");
    // This one was handed over by Exchange, and nobody can download it there any more.
    exchange.faults.always("GetItem", { status: 503 });
    await mirror.append("Orders", letter("ann waits for its download"));
    await service.until("the attempt", () => service.facts.some(({ kind }) => kind === "mail.download_failed"));

    graph.application.permissions = ["Mail.ReadWrite", "Mail.Send"];
    graph.forgetTokens();
    const refused = (await move("ann", { application: "contoso" })).body;
    assert.deepEqual([refused.ok, refused.moved], [false, false]);
    assert.match(refused.steps.at(-1).fix, /User\.Read\.All/);
    graph.application.permissions = ["Mail.ReadWrite", "Mail.Send", "User.Read.All"];
    graph.forgetTokens();
    const dry = await cli("mailbox", "move-to-graph", "ann", "--application", "contoso", "--dry-run");
    assert.equal(dry.code, 0, dry.out);
    assert.match(dry.out, /folder INBOX +2 messages; .* 1 were handed over and 0 are new/);
    assert.match(dry.out, /folder Orders +2 messages; .* 2 were handed over and 0 are new[\s\S]*ann can move/);
    assert.equal((await settingsOf("ann")).receive.protocol, "ews");

    await exchange.stop();
    await mirror.append("inbox", letter("ann came in between"));
    await mirror.append("Orders", letter("ann came in between too"));
    const moved = await cli("mailbox", "move-to-graph", "ann", "--application", "contoso");
    assert.match(moved.out, /1 are new[\s\S]*ann moved/);
    await service.kill();
    graph.faults.once("translate", { status: 503, body: "" });
    await service.start();
    const { receive } = await settingsOf("ann");
    assert.deepEqual([receive.protocol, receive.folders], ["graph", ["INBOX", "Orders"]]);
    await status(service, "ann", "polling");
    await mirror.append("inbox", letter("ann came afterwards"));
    const wanted = [
      "ann came afterwards",
      "ann came in between",
      "ann came in between too",
      "ann one",
      "ann two",
      "ann waits for its download",
    ];
    await arrived(...wanted);
    // A look at everything again, by content: nothing more comes of it.
    const resync = { since: new Date(Date.now() - 600_000).toISOString() };
    assert.equal((await service.call("POST", "/api/v1/mailboxes/ann/resync", resync)).body.messages, 6);
    const known = () =>
      service.facts.filter((fact) => fact.kind === "mail.duplicate" && fact["mailbox"] === "ann").length;
    await service.until("all to be recognised", () => known() >= 6);
    assert.deepEqual(ofMailbox("ann"), wanted);
    const back = await move("ann", { back: true });
    assert.deepEqual([back.status, /no way back/.test(back.body.detail)], [409, true]);
    await exchange.start();
    exchange.faults.clear();
  });

  test("also when Exchange no longer knows all ids, and the service is killed while Graph reads the folder", async () => {
    const mirror = await mailboxOf("eve");
    const earlier = Array.from({ length: MORE_THAN_REMEMBERED }, (_, n) => `eve ${String(n).padStart(3, "0")}`);
    for (const subject of earlier) await mirror.append("inbox", letter(subject));
    await arrived(...earlier);
    const { body } = await move("eve", { application: "contoso" });
    assert.equal(body.moved, true, JSON.stringify(body));
    const meanwhile = ["eve a", "eve b", "eve c"];
    for (const subject of meanwhile) {
      await mirror.append("inbox", letter(subject));
      await service.kill();
      await service.start();
    }
    await arrived(...meanwhile);
    await status(service, "eve", "polling");
    // What Exchange forgot comes once more, and is recognised by its content.
    await service.until("all to be settled", async () => {
      const { ready, delayed, running } = (await service.call("GET", "/api/v1/diagnostics")).body.tasks;
      const isKnown = service.facts.some((fact) => fact.kind === "mail.duplicate" && fact["mailbox"] === "eve");
      return isKnown && ready + delayed + running === 0;
    });
    assert.deepEqual(ofMailbox("eve"), [...earlier, ...meanwhile].toSorted());
  });

  test("and back, as long as Graph has handed over nothing", async () => {
    const mirror = await mailboxOf("bob");
    await mirror.append("inbox", letter("bob one"));
    await mirror.append("Orders", letter("bob two"));
    await arrived("bob one", "bob two");
    assert.equal((await move("bob", { application: "contoso" })).body.moved, true);
    await status(service, "bob", "polling");
    assert.equal((await move("bob", { back: true, dryRun: true })).body.moved, false);
    const { status: code, body } = await move("bob", { back: true });
    assert.deepEqual([code, body.moved], [200, true], JSON.stringify(body));
    await status(service, "bob", "listening");
    const { receive } = await settingsOf("bob");
    assert.deepEqual([receive.protocol, receive.auth.user], ["ews", "bob@example.com"]);
    await mirror.append("inbox", letter("bob three"));
    await mirror.append("Orders", letter("bob four"));
    await arrived("bob three", "bob four");
    assert.deepEqual(ofMailbox("bob"), ["bob four", "bob one", "bob three", "bob two"]);
    assert.equal((await move("bob", { back: true })).status, 409);
  });

  test("is refused where it makes no sense, and all can move at once", async () => {
    await mailboxOf("carl");
    assert.equal((await move("nobody", { application: "contoso" })).status, 404);
    for (const application of [undefined, "unknown"]) {
      const { status: code, body } = await move("carl", { application });
      assert.equal(code, 422, JSON.stringify(body));
    }
    assert.equal((await move("ann", { application: "contoso" })).status, 409);
    const all = await cli("mailbox", "move-to-graph", "--all", "--application", "contoso");
    assert.equal(all.code, 0, all.out);
    assert.match(all.out, /bob moved\ncarl moved\n2 of 2 mailboxes moved/);
    await status(service, "carl", "polling");
    assert.equal((await cli("mailbox", "move-to-graph")).code, 1);
  });

  test("and so does one that a CRM registered for Exchange at Microsoft, where an application names its domain", async () => {
    const crm = await startCrm({ listener: () => `${service.url}/api/listeners` });
    try {
      const address = "dora@crm-users.example";
      await graph.addUser(address);
      // A host of Microsoft that does not exist.
      const server = { ServerTypeId: EXCHANGE_TYPE, ServiceUrl: "nowhere.invalid.office365.com", UserName: address };
      const id = randomUUID();
      const wish = { id, user: "dora", address, port: 0, folders: [], server };
      const credentials = crm.credentials(wish);
      crm.mailboxes.set(id, { id, credentials, stopped: false, error: null });
      assert.equal((await crm.call("create", [credentials])).status, 200);
      const { problem } = await service.until("the problem", async () => {
        const { state } = await settingsOf(id);
        return state.problem !== null && state;
      });
      assert.match(problem.fix, /name crm-users\.example in `domains` of an application/);
      const validated = async () => JSON.parse((await crm.call("validate", credentials)).text);
      const invalid = await validated();
      assert.deepEqual([invalid.IsValid, /in `domains` of an application/.test(invalid.Message)], [false, true]);

      const application = (await service.call("GET", "/api/v1/applications/contoso")).body;
      const {
        id: _id,
        revision: _revision,
        createdAt: _at,
        updatedAt: _then,
        problem: _none,
        ...settings
      } = application;
      const domains = ["CRM-users.example"];
      const set = (body: object, other = "contoso") => service.call("PUT", `/api/v1/applications/${other}`, body);
      assert.equal((await set({ ...settings, domains })).status, 200);
      const taken = await set({ ...settings, clientSecret: "x", domains }, "other");
      assert.deepEqual([taken.status, taken.body.errors[0].path], [422, "domains"]);
      await status(service, id, "polling");
      await graph.append(address, "inbox", letter("dora one"));
      assert.deepEqual(await savedMails(crm, 1), ["dora one"]);
      assert.equal((await validated()).IsValid, true);
      const Email = {
        Id: "<5f1c@crm-users.example>",
        Subject: "An offer",
        Body: "<p>Look</p>",
        IsHtmlBody: true,
        Sender: address,
        Recepients: ["bob@example.net"],
        CopyRecepients: [],
        BlindCopyRecepients: [],
        Importance: 1,
        Headers: ["MessageId=<5f1c@crm-users.example>"],
        Attachments: [],
      };
      const sent = await crm.call("v2/send", { Email, Credentials: credentials });
      assert.deepEqual([sent.status, sent.text], [200, ""]);
      await service.until("the mail at Graph", () => graph.sent.length === 1);
      // The CRM still has an Exchange mailbox, and saves it again.
      assert.equal((await crm.call("recreate", [credentials])).status, 200);
      await status(service, id, "polling");
      const moved = (await move(id, { application: "contoso" })).body;
      assert.deepEqual([moved.moved, moved.steps[0].name], [false, "crm"]);
      assert.equal((await set(settings)).status, 200);
      await service.until("Exchange again", async () => (await settingsOf(id)).state.problem !== null);
    } finally {
      await crm.stop();
    }
  });
});

/** A message of several parts: Graph makes its boundaries anew at each download. */
function letter(subject: string): Buffer {
  const attachments = [{ filename: "a.txt", content: subject }];
  return message({ subject, text: subject, html: `<p>${subject}</p>`, attachments });
}
