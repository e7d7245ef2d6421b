/** A mail server that gives an account one connection: the subscription's own does all the work. */
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { imapBody, PASSWORD, register, toEndpoint } from "./bodies.ts";
import { startDovecot } from "./servers/dovecot.ts";
import { message, numbered } from "./servers/mail.ts";
import { nodeBeside } from "./stories/scene.ts";

const SMALL = 40;

test("mail of any size arrives once over the only connection, and is deleted after it", async () => {
  const server = await startDovecot({ config: "mail_max_userip_connections = 1" });
  const { service, endpoint, end } = await nodeBeside(Object.assign(server, { stop: server.remove }));
  try {
    await server.addUser("bob", PASSWORD);
    const deliver = (n: number) => server.deliver("bob", numbered(n, { subject: `mail ${n}` }));
    for (let n = 0; n < SMALL / 2; n++) await deliver(n);
    const receive = { since: "2001-01-01", afterDelivery: "delete" };
    await register(service, imapBody(server, "bob", { id: "bob", receive, deliver: toEndpoint(endpoint) }));
    for (let n = SMALL / 2; n < SMALL; n++) await deliver(n);
    await server.deliver("bob", message({ subject: "mail large", bytes: 3_500_000 }));
    await endpoint.waitFor(SMALL + 1, 120_000);
    const names = async () => {
      const folder = join(server.folder, "mail/bob/Maildir");
      return [...(await readdir(join(folder, "cur"))), ...(await readdir(join(folder, "new")))];
    };
    await service.until("the folder to be empty", async () => (await names()).length === 0, 60_000);
    await deliver(SMALL);
    await endpoint.waitFor(SMALL + 2, 60_000);
    const subjects = endpoint.received.map(({ json }) => (json as any).data.subject);
    const expected = [...Array.from({ length: SMALL + 1 }, (_, n) => `mail ${n}`), "mail large"];
    assert.deepEqual(subjects.toSorted(), expected.toSorted());
    assert.match(await server.log(), /Maximum number of connections/, "the limit was met");
  } finally {
    await end();
  }
});
