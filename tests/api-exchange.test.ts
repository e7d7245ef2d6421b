/** Exchange mailboxes in the HTTP face: what may be said of them, what is shown, and their folders. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type ApiNode, startApi } from "./api-node.ts";
import { ewsBody, PASSWORD } from "./bodies.ts";
import { type Exchange, startExchange } from "./servers/exchange/server.ts";
import { numbered } from "./servers/mail.ts";

const ANN = "ann@example.com";
const auth = { user: ANN, password: PASSWORD };
const mailbox = (receive: object, more: object = {}) => ({ ...ewsBody({}, ANN, { receive }), ...more });

describe("An Exchange mailbox in the API", () => {
  let node: ApiNode;
  let exchange: Exchange;
  before(async () => {
    node = await startApi();
    exchange = await startExchange({ tls: true });
    await exchange.addUser(ANN, PASSWORD);
  });
  after(async () => {
    await node.close();
    await exchange.stop();
  });
  const register = (receive: object, more?: object) => node.call("POST", "/api/v1/mailboxes", mailbox(receive, more));

  test("is reached by a host, by a whole URL, or by what autodiscover finds, and shows a port where it has a host", async () => {
    const places = [{ host: "mail.example.com" }, { url: "https://mail.example.com/x/Exchange.asmx" }, {}];
    const ports = [];
    for (const place of places) {
      const { status, body } = await register(place);
      assert.equal(status, 201, JSON.stringify(body));
      ports.push(body.receive.port);
      assert.deepEqual([body.receive.access, body.receive.folders, body.receive.mode], ["own", ["INBOX"], "push"]);
      assert.deepEqual(body.receive.auth, { user: ANN });
    }
    assert.deepEqual(ports, [443, undefined, undefined]);
  });

  test("is refused with the field that is wrong", async () => {
    const oauth2 = { tokenUrl: "https://login.example.com/token", clientId: "one", privateKey: "secret words" };
    const pem =
      "-----BEGIN CERTIFICATE-----\nAAAA\n-----BEGIN PRIVATE KEY-----\nsecret words\n-----END PRIVATE KEY-----";
    const wrong: [object, string][] = [
      [{ ca: pem }, "receive.ca"],
      [{ auth: { user: ANN, oauth2: { ...oauth2, certificate: pem } } }, "receive.auth.oauth2.certificate"],
      [{ redirects: "(unfinished" }, "receive.redirects"],
      [{ redirects: "(?=looking ahead)" }, "receive.redirects"],
      [{ url: "https://ann:words@mail.example.com/EWS/Exchange.asmx" }, "receive.url"],
      [{ tls: "starttls" }, "receive.tls"],
      [{ access: "owner" }, "receive.access"],
      [{ auth: { user: ANN, oauth2 } }, "receive.auth.oauth2"],
      [{ auth: { user: ANN, accessToken: "a.b.c" }, scheme: "ntlm" }, "receive.scheme"],
      [{ apop: true }, "receive.apop"],
    ];
    for (const [receive, path] of wrong) {
      const { status, body, text } = await register(receive);
      assert.equal(status, 422, path);
      assert.ok(
        body.errors.some((one: { path: string }) => one.path === path),
        text,
      );
      assert.ok(!text.includes("secret words"));
    }
  });

  test("takes the place of an IMAP mailbox by a patch, and says what it does with delivered messages", async () => {
    const imap = { protocol: "imap", host: "imap.example.com", auth };
    const made = await register(imap, { id: "patched" });
    assert.equal(made.status, 201, made.text);
    const receive = {
      protocol: "ews",
      host: null,
      port: null,
      url: "https://mail.example.com/EWS/Exchange.asmx",
      mode: "poll",
      auth,
    };
    const { status, body, text } = await node.call("PATCH", "/api/v1/mailboxes/patched", { receive });
    assert.equal(status, 200, text);
    assert.deepEqual(
      [body.receive.protocol, body.receive.url, body.receive.afterDelivery],
      ["ews", receive.url, "markRead"],
    );
  });

  test("lists its folders, and hands over once more what was received since a date", async () => {
    const { host, port, ca } = exchange;
    const { body } = await register({ host, port, ca }, { id: "listed" });
    assert.equal(body.id, "listed");
    await exchange.createFolder(ANN, "Inbox/Orders");
    const folders = await node.call("GET", "/api/v1/mailboxes/listed/folders");
    assert.equal(folders.status, 200, folders.text);
    const orders = folders.body.items.find((one: { name: string }) => one.name === "Orders");
    assert.deepEqual([orders.parent, orders.path], ["INBOX", exchange.folderId(ANN, "Inbox/Orders")]);
    const key = await exchange.append(ANN, "inbox", numbered(1));
    const since = new Date(Date.now() - 3_600_000).toISOString();
    const again = await node.call("POST", "/api/v1/mailboxes/listed/resync", { since });
    assert.equal(again.status, 202, again.text);
    const [task] = await node.tasks(1);
    assert.ok(task?.kind === "deliver");
    assert.deepEqual(
      task.messages.map((one) => one.key),
      [key],
    );
  });
});
