/**
 * Bodies of requests to the API and to the paths of a CRM, over a real socket: real ones with values exchanged, and texts that are no
 * JSON. Each gets an answer that is no server error; a refusal says its cause and its fix.
 */
import assert from "node:assert/strict";
import * as fc from "fast-check";
import { type ApiNode, startApi } from "../api-node.ts";
import { exampleBody } from "../bodies.ts";

const ODD: unknown[] = [
  null,
  true,
  0,
  -1,
  1.5,
  1e308,
  "",
  " ",
  "\0",
  "a".repeat(5000),
  "\uD800",
  "🎉",
  [],
  {},
  [[]],
  "__proto__",
  "127.0.0.1",
  "a@b",
  "<a@b>",
  "2026-02-30",
  "http://[::1",
  "${x}",
  "../../x",
  "*",
  "\r\nX: y",
  { constructor: { prototype: 1 } },
  Array(200).fill(1),
];
const NAMES = [
  "address",
  "receive",
  "auth",
  "password",
  "deliver",
  "url",
  "to",
  "__proto__",
  "id",
  "folders",
  "since",
  "tls",
  "port",
  "Email",
  "Id",
];

/** The body of each path, right as it is. */
const REQUESTS: [method: string, path: string, body: unknown][] = [
  ["POST", "/api/v1/mailboxes", exampleBody()],
  ["PATCH", "/api/v1/mailboxes/nobody", { paused: true, deliver: { url: "https://crm.example.com/mail" } }],
  [
    "POST",
    "/api/v1/mailboxes/nobody/messages",
    { to: ["bob@example.net"], subject: "a", text: "b", attachments: [{ filename: "a", content: "YQ==" }] },
  ],
  ["POST", "/api/v1/parked/replay", { ids: ["a"], mailbox: "b" }],
];
const CRM_REQUESTS: [method: string, path: string, body: unknown][] = [
  [
    "POST",
    "/api/listeners",
    { Id: "a", Mailboxes: [{ Id: "b", SenderEmailAddress: "a@b.example", Login: "a", Password: "b" }] },
  ],
  [
    "POST",
    "/api/listeners/Subscribe",
    { Connection: { ServerAddress: "imap.example.com", Port: 993, UserName: "a", Password: "b" } },
  ],
  [
    "POST",
    "/api/listeners/SendEmail",
    { Email: { Recepients: ["a@b.example"], Subject: "a", Body: "b", Attachments: [{ Name: "a", Data: "YQ==" }] } },
  ],
  [
    "POST",
    "/api/listeners/ValidateCredentials",
    { Credentials: { UserName: "a", Password: "b", ServerAddress: "127.0.0.1" } },
  ],
];

type Change = { where: number; kind: "value" | "name" | "remove"; odd: unknown; name: string };
const change: fc.Arbitrary<Change> = fc.record({
  where: fc.nat({ max: 60 }),
  kind: fc.constantFrom("value", "value", "name", "remove"),
  odd: fc.oneof(
    fc.constantFrom(...ODD),
    fc.json().map((text) => JSON.parse(text) as unknown),
  ),
  name: fc.constantFrom(...NAMES),
});

type Spot = { holder: Record<string, unknown>; key: string };
function spotsOf(value: unknown): Spot[] {
  if (typeof value !== "object" || value === null) return [];
  const holder = value as Record<string, unknown>;
  return Object.keys(holder).flatMap((key) => [{ holder, key }, ...spotsOf(holder[key])]);
}

function applyChange(body: unknown, { where, kind, odd: shared, name }: Change): void {
  const odd: unknown = structuredClone(shared);
  const spots = spotsOf(body);
  const spot = spots[where % Math.max(1, spots.length)];
  if (!spot) return;
  if (kind === "value") spot.holder[spot.key] = odd;
  else if (kind === "remove") delete spot.holder[spot.key];
  else Object.defineProperty(spot.holder, name, { value: odd, enumerable: true, configurable: true, writable: true });
}

type Request = { method: string; path: string; text: string };
function requests(list: typeof REQUESTS): fc.Arbitrary<Request> {
  const changed = fc
    .tuple(fc.constantFrom(...list), fc.array(change, { minLength: 1, maxLength: 4 }))
    .map(([[method, path, body], changes]) => {
      const copy: unknown = structuredClone(body);
      for (const one of changes) applyChange(copy, one);
      return { method, path, text: JSON.stringify(copy) };
    });
  const words = fc.oneof(
    fc.string({ unit: "binary", maxLength: 60 }),
    fc.constantFrom("[".repeat(50_000), '{"a":'.repeat(20_000), "", "{", "null", "\uFEFF{}"),
  );
  const any = fc.tuple(fc.constantFrom(...list), words).map(([[method, path], text]) => ({ method, path, text }));
  return fc.oneof({ weight: 6, arbitrary: changed }, { weight: 1, arbitrary: any });
}

const ANSWER_MS = 20_000;

async function send({ url }: ApiNode, { method, path, text }: Request): Promise<Response> {
  const headers = { "content-type": "application/json" };
  return fetch(url + path, { method, headers, body: text, signal: AbortSignal.timeout(ANSWER_MS) });
}

export type Bodies = { api: fc.IAsyncProperty<[Request]>; crm: fc.IAsyncProperty<[Request]>; stop(): Promise<void> };

/** A node of its own, and the properties of its answers. */
export async function startBodies(): Promise<Bodies> {
  const node = await startApi({ CRM_ACCESS: "networks:127.0.0.0/8", EGRESS_PRIVATE: "allow" });
  const api = fc.asyncProperty(requests(REQUESTS), async (request) => {
    const response = await send(node, request);
    const text = await response.text();
    assert.ok(response.status < 500, `${request.method} ${request.path} answered ${response.status}: ${text}`);
    if (response.status < 400) return;
    const problem = JSON.parse(text) as { detail?: string; title?: string; fix?: string; errors?: { fix?: string }[] };
    assert.ok((problem.detail ?? problem.title ?? "").length > 5 && text.length < 100_000, text.slice(0, 1000));
  });
  const crm = fc.asyncProperty(requests(CRM_REQUESTS), async (request) => {
    const response = await send(node, request);
    const text = await response.text();
    // A CRM reads every refusal as a plain text with status 500.
    const isRefusal = response.status < 400 || (text.length > 5 && text.length < 100_000);
    assert.ok(
      isRefusal && !/log of this node|\n\s+at /.test(text),
      `${request.path} answered ${response.status}: ${text}`,
    );
  });
  return { api, crm, stop: () => node.close() };
}
