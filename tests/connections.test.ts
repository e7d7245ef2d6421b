/** What is known of the connection of a mailbox: of every protocol, as its node wrote it, and written only when it changed. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { connectionBoard } from "../api/listen/connections.ts";
import type { ConnectionFacts, TokenFacts } from "../shared/contract/learned.ts";
import { ewsBody, graphBody, imapBody, PASSWORD, popBody, register, toEndpoint } from "./bodies.ts";
import { movableClock } from "./clock.ts";
import { clusterRig, expect, shared } from "./cluster-rig.ts";
import { startExchange } from "./servers/exchange/server.ts";
import { startGraphServer } from "./servers/graph/server.ts";
import { startImapServer } from "./servers/imap/server.ts";
import { startPop3Server } from "./servers/pop3.ts";
import { provide } from "./servers/provide.ts";
import type { Redis } from "./servers/redis.ts";
import { eventually } from "./servers/waiting.ts";
import { type Service, TOKEN } from "./service.ts";
import { nodeBeside, status } from "./stories/scene.ts";

const ANN = "ann@example.com";

let redis: Redis | undefined;
before(async () => {
  redis = (await provide("redis"))?.server;
});
after(() => redis?.remove());

type Known = ConnectionFacts & { connections: number; throttledUntil: string | null };
const knownOf = (service: Service, id: string, isWanted: (known: Known) => boolean = () => true): Promise<Known> =>
  service.until("what is known of the connection", async () => {
    const { connection } = expect(await service.call("GET", `/api/v1/mailboxes/${id}`), 200);
    return connection && isWanted(connection) && connection;
  });
/** The page as a browser gets it after the login. */
async function pageOf(service: Service, id: string): Promise<string> {
  const body = new URLSearchParams({ token: TOKEN });
  const answer = await fetch(`${service.url}/login`, { method: "POST", body, redirect: "manual" });
  const cookie = answer.headers.get("set-cookie")?.split(";")[0] ?? "";
  return (await fetch(`${service.url}/mailboxes/${id}`, { headers: { cookie } })).text();
}

function checkTls({ tls }: Known): void {
  assert.match(tls?.version ?? "", /^TLSv1\.[23]$/);
  assert.ok(Date.parse(tls?.certificateEndsAt ?? "") > Date.now(), JSON.stringify(tls));
}

describe("what is known of a connection", { timeout: 300_000 }, () => {
  for (const tls of ["implicit", "starttls", "none"] as const)
    test(`by IMAP with TLS ${tls} has the server, its capabilities, and the end of its certificate`, async () => {
      const mail = await startImapServer();
      const { service, end } = await nodeBeside(mail);
      try {
        await mail.addUser("ann", PASSWORD);
        const port = tls === "implicit" ? mail.imapsPort : mail.imapPort;
        const id = await register(service, imapBody(mail, "ann", { receive: { tls, port, ca: mail.ca } }));
        await status(service, id, "listening");
        const known = await knownOf(service, id);
        assert.ok(known.server);
        assert.ok(known.capabilities.includes("IDLE"), known.capabilities.join());
        assert.ok(!JSON.stringify(known).includes(PASSWORD));
        if (tls === "none") assert.equal(known.tls, null);
        else checkTls(known);
        assert.deepEqual([known.token, known.throttledUntil, known.connections], [null, null, 1]);
        const page = await pageOf(service, id);
        assert.match(page, /It offers<\/dt>\s*<dd>[^]*?IDLE/);
        assert.match(page, tls === "none" ? /Encryption<\/dt>\s*<dd>none/ : /TLSv1\.[23]; the certificate ends/);
        // A list has no such part.
        const { items } = expect(await service.call("GET", "/api/v1/mailboxes"), 200);
        assert.equal(items[0].connection, undefined);
      } finally {
        await end();
      }
    });

  test("by POP3 has them too", async () => {
    const pop = await startPop3Server();
    pop.addUser("ann", PASSWORD);
    const { service, end } = await nodeBeside(pop);
    try {
      const id = await register(service, popBody(pop, "ann"));
      await status(service, id, "polling");
      const known = await knownOf(service, id);
      assert.ok(known.capabilities.includes("UIDL"), known.capabilities.join());
      assert.ok(known.server);
      checkTls(known);
    } finally {
      await end();
    }
  });

  test("on Exchange has its version, and the time that a busy server asks to wait", async () => {
    const exchange = await startExchange({ tls: true });
    await exchange.addUser(ANN, PASSWORD);
    const { service, end } = await nodeBeside(exchange, { PROBE_SECONDS: "1", FOLDER_POLL_SECONDS: "0.5" });
    try {
      const id = await register(service, ewsBody(exchange, ANN));
      await status(service, id, "listening");
      const known = await knownOf(service, id);
      assert.match(known.server ?? "", /^Exchange 2016 \(15\.1\.2507\.6\)$/);
      assert.deepEqual(known.capabilities, []);
      checkTls(known);
      exchange.faults.always("*", { soapFault: "ErrorServerBusy", backOffMs: 60_000 });
      exchange.disconnectAll();
      await status(service, id, "throttled");
      const busy = await knownOf(service, id, ({ throttledUntil }) => throttledUntil !== null);
      assert.ok(Date.parse(busy.throttledUntil ?? "") > Date.now());
      assert.equal(busy.connections, 0);
      assert.match(await pageOf(service, id), /Asked to wait<\/dt>\s*<dd>The next attempt is/);
    } finally {
      await end();
    }
  });

  test("by Graph has the end of its token, also of the next one", async () => {
    const server = await startGraphServer();
    await server.addUser(ANN);
    // Shorter than the minute before its end at which a token is renewed, so each request takes a new one.
    server.tokenSeconds = 50;
    const { service, endpoint, end } = await nodeBeside(server, { PROBE_SECONDS: "1", FOLDER_POLL_SECONDS: "0.4" });
    try {
      const id = await register(service, graphBody(server, ANN, { deliver: toEndpoint(endpoint) }));
      await status(service, id, "polling");
      const known = await knownOf(service, id);
      assert.equal(known.server, "Microsoft Graph v1.0");
      const { endsAt, renewsAt } = known.token!;
      assert.equal(Date.parse(endsAt) - Date.parse(renewsAt), 60_000);
      assert.match(await pageOf(service, id), /Token<\/dt>\s*<dd>It ends/);
      const next = await knownOf(service, id, ({ token }) => token !== null && token.endsAt > endsAt);
      assert.ok(next.since > known.since);
    } finally {
      await end();
    }
  });

  test("is the same on a node that does not hold the mailbox, and for a token of another prefix there is none", async (t) => {
    if (!redis) return t.skip("no redis");
    const rig = await clusterRig({ redisUrl: redis.url });
    try {
      const [one, two] = await Promise.all([rig.api("api-0"), rig.api("api-1")]);
      await rig.register(one, 4);
      await shared(one, 4, { "api-0": 1, "api-1": 1 });
      const { items } = expect(await one.call("GET", "/api/v1/mailboxes"), 200);
      const held = items.find((item: any) => item.state.node === "api-1").id;
      const known = await knownOf(one, held);
      assert.ok(known.capabilities.includes("IDLE"));
      assert.deepEqual(await knownOf(two, held), known);
      const made = { name: "its own", scopes: ["read"], mailboxPrefix: held };
      const { token } = expect(await one.call("POST", "/api/v1/tokens", made), 201);
      const asOwn = { authorization: `Bearer ${token}` };
      const path = `/api/v1/mailboxes/${held}`;
      assert.deepEqual(expect(await one.call("GET", path, undefined, asOwn), 200).connection, known);
    } finally {
      await rig.end();
    }
  });
});

describe("the facts of a connection", () => {
  const server = { server: "One", capabilities: ["IDLE"], tls: null };

  test("are written when they changed, together, and again after a failure", async () => {
    using time = movableClock();
    const saved: [string, ConnectionFacts][][] = [];
    const reported: string[] = [];
    let [fails, token]: [boolean, TokenFacts | undefined] = [false, undefined];
    const board = connectionBoard({
      connections: {
        async save(entries) {
          if (fails) throw new Error("away");
          saved.push(entries.map(({ mailbox, facts }) => [mailbox, facts]));
        },
      },
      tokenEndOf: () => token,
      emit: ({ kind }) => void reported.push(kind),
    });
    const stop = new AbortController();
    const running = board.run(stop.signal);
    const written = async (times: number) => {
      await eventually(async () => {
        await time.advance(1_000);
        return saved.length >= times;
      }, "the write");
      assert.equal(saved.length, times);
    };
    board.note("a", server);
    board.note("b", server);
    for (let n = 0; n < 100; n++) board.note("a", { ...server });
    await written(1);
    assert.deepEqual(
      saved[0]?.map(([mailbox]) => mailbox),
      ["a", "b"],
    );
    token = { endsAt: "2026-12-01T10:00:00.000Z", renewsAt: "2026-12-01T09:59:00.000Z" };
    fails = true;
    board.note("a", server);
    await eventually(async () => {
      await time.advance(10_000);
      return reported.length > 0;
    }, "the failure");
    board.note("b", { ...server, server: "Two" });
    fails = false;
    await written(2);
    assert.deepEqual(saved[1]?.map(([mailbox, { server: name, token: end }]) => [mailbox, name, end]).toSorted(), [
      ["a", "One", token],
      ["b", "Two", token],
    ]);
    assert.deepEqual(reported, ["service.failed"]);
    // Another subscription of the mailbox may begin here later.
    board.forget("a");
    board.note("a", server);
    stop.abort();
    await running;
    assert.equal(saved.length, 3);
  });
});
