/** The examples of the reference: each of them is made against a real service, with real servers around it, and gets the status that it promises. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type Example, EXAMPLES, exampleOf, pathOfExample } from "../api/pages/reference/examples.ts";
import { LINKS } from "../api/pages/reference/links.ts";
import { PASSWORD } from "./bodies.ts";
import { message } from "./servers/mail.ts";
import { type Scene, scene } from "./stories/scene.ts";
import { TOKEN } from "./service.ts";

/** Ids in the examples that the service makes by itself. */
const real = new Map<string, string>();
let stage: Scene;
let document: any;

before(async () => {
  stage = await scene({ PUBLIC_URL: "https://mail.example.com" });
  document = (await stage.service.call("GET", "/openapi.json")).body;
  await registerNamed();
});
after(() => stage?.end());

/** What the examples name: a mailbox with a parked message that also sends, one on Exchange, an application, a token. */
async function registerNamed(): Promise<void> {
  const { service, mail, endpoint } = stage;
  endpoint.answer(() => ({ status: 413 }));
  await mail.addUser("help-desk", PASSWORD);
  const login = { user: "help-desk", password: PASSWORD };
  await put("help-desk", {
    address: "help-desk@example.com",
    receive: { protocol: "imap", host: "127.0.0.1", port: mail.imapPort, tls: "none", auth: login },
    send: { host: "127.0.0.1", port: 9, tls: "none" },
    deliver: { url: endpoint.url, secret: endpoint.secret },
  });
  const exchange = { protocol: "ews", host: "127.0.0.1", port: 9, auth: { user: "x@example.com", password: "x" } };
  await put("exchange", { address: "x@example.com", receive: exchange, deliver: { url: endpoint.url } });
  await service.until("listening", async () => {
    const { body } = await service.call("GET", "/api/v1/mailboxes/help-desk");
    return body.state.status === "listening";
  });
  await mail.append("help-desk", "INBOX", message({ subject: "too large" }));
  const parked = await service.until("the parked message", async () => {
    const { body } = await service.call("GET", "/api/v1/deliveries?state=parked");
    return body.items[0];
  });
  real.set(idIn("GET /api/v1/deliveries/{id}"), parked.id);
}

async function put(id: string, body: object): Promise<void> {
  const { status, body: answer } = await stage.service.call("PUT", `/api/v1/mailboxes/${id}`, body);
  assert.equal(status, 201, JSON.stringify(answer));
}

const idIn = (at: string) => EXAMPLES[at]?.id ?? assert.fail(`${at} has no id`);

/** What the answer of one example is called in others. */
const MADE: Record<string, string> = {
  "POST /api/v1/mailboxes/{id}/messages": "GET /api/v1/messages/{deliveryId}",
  "POST /api/v1/tokens": "GET /api/v1/tokens/{id}",
  "POST /api/v1/bulk": "GET /api/v1/bulk/{id}",
};

/** Makes the request. Of a stream only the head is read. */
async function make(at: string, example: Example) {
  const [method = "", path = ""] = at.split(" ");
  const id = example.id === undefined ? {} : { id: real.get(example.id) ?? example.id };
  const type = example.body === undefined ? {} : { "content-type": "application/json" };
  const response = await fetch(stage.service.url + pathOfExample(path, { ...example, ...id }), {
    method,
    headers: { authorization: `Bearer ${TOKEN}`, ...type, ...example.headers },
    ...(example.body !== undefined && { body: JSON.stringify(example.body) }),
  });
  const isStream = response.headers.get("content-type")?.startsWith("text/event-stream") === true;
  const text = isStream ? "" : await response.text();
  if (isStream) await response.body?.cancel();
  return { status: response.status, text };
}

/** What others need, besides those of MADE. */
const FIRST = new Set([
  "POST /api/v1/mailboxes/{id}/record",
  "POST /api/v1/applications",
  "PUT /api/v1/mailboxes/{id}",
  "POST /api/v1/endpoints/pause",
]);

/** What one example makes comes before what reads it, and what removes something comes last. */
const rank = (at: string) =>
  at.startsWith("DELETE") ? 3 : at in MADE || FIRST.has(at) ? 0 : at.includes("/replay") ? 2 : 1;

describe("the examples of the reference", () => {
  test("are there for every route, and for no other", () => {
    const routes = Object.entries<any>(document.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    assert.deepEqual(Object.keys(EXAMPLES).toSorted(), routes.toSorted());
  });

  test("are answered as they say", async () => {
    const wrong: string[] = [];
    for (const at of Object.keys(EXAMPLES).toSorted((a, b) => rank(a) - rank(b))) {
      const example = EXAMPLES[at] ?? assert.fail(at);
      const { status, text } = await make(at, example);
      if (status !== example.status) wrong.push(`${at}: ${status} ${text.slice(0, 300)}`);
      else if (MADE[at] !== undefined) real.set(idIn(MADE[at]), JSON.parse(text).id);
    }
    assert.deepEqual(wrong, []);
  });

  test("stand in the document with their answer, and as a command", () => {
    for (const [path, methods] of Object.entries<any>(document.paths))
      for (const [method, operation] of Object.entries<any>(methods)) {
        const at = `${method} ${path}`;
        const example = exampleOf({ method, path }) ?? assert.fail(at);
        assert.ok(operation.responses[example.status], at);
        const { source } = operation["x-codeSamples"][0];
        assert.ok(source.includes(`"$URL${pathOfExample(path, example)}"`), at);
        assert.equal(source.includes("$TOKEN"), operation.security.length > 0, at);
        if (example.body !== undefined) {
          const type = example.headers?.["content-type"] ?? "application/json";
          assert.deepEqual(operation.requestBody.content[type].example, example.body, at);
          assert.ok(!JSON.stringify(example.body).includes("'"), `${at}: a quote would end the command's text`);
        }
      }
  });
});

describe("the links of the reference", () => {
  test("lead from answers that there are to operations and parameters that there are", () => {
    const operations = new Map<string, any>();
    for (const methods of Object.values<any>(document.paths))
      for (const operation of Object.values<any>(methods)) operations.set(operation.operationId, operation);
    for (const [from, answers] of Object.entries(LINKS))
      for (const [status, links] of Object.entries(answers)) {
        const answer = operations.get(from)?.responses[status] ?? assert.fail(`${from} ${status}`);
        assert.equal(Object.keys(answer.links).length, links.length, from);
        for (const { operation, parameters = {} } of links) {
          const target = operations.get(operation) ?? assert.fail(`${from} leads to ${operation}`);
          const known = target.parameters.map(({ name }: { name: string }) => name);
          for (const name of Object.keys(parameters)) assert.ok(known.includes(name), `${operation} has no ${name}`);
        }
      }
  });
});
