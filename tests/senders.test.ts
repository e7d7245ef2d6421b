/** What the connections to send over promise whoever shares them: a connection that is replaced was closed before. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Problem } from "../shared/contract/problem.ts";
import { type EwsAccounts, ewsAccounts } from "../shared/mail/ews/account.ts";
import { senderPool } from "../worker/mail/sender-pool.ts";
import { PASSWORD } from "./bodies.ts";
import { depsFor, exchangeMailboxOn } from "./promises/mailbox-rig.ts";
import { startExchange } from "./servers/exchange/server.ts";

const { signal } = new AbortController();
const ADDRESS = "anna@example.com";

/** What Exchange mailboxes share, with a count of those who use it. */
function counted() {
  const shared = ewsAccounts();
  let users = 0;
  const counting: EwsAccounts = {
    ...shared,
    acquire(deps, of) {
      const { account, over } = shared.acquire(deps, of);
      users += 1;
      return {
        account,
        over() {
          users -= 1;
          over();
        },
      };
    },
  };
  return { counting, users: () => users };
}

test("a session that turned out to be useless is closed before another takes its place, and the other one after it", async () => {
  const server = await startExchange();
  await server.addUser(ADDRESS, PASSWORD);
  const { counting, users } = counted();
  const outgoing = senderPool({ ...depsFor(), exchange: counting });
  const mailbox = exchangeMailboxOn(server, ADDRESS);
  const raw = Buffer.from(`From: ${ADDRESS}\r\nTo: bob@example.net\r\nSubject: x\r\n\r\nx\r\n`);
  const order = { id: "snd_1", from: ADDRESS, to: ["bob@example.net"], raw, dsn: null, save: false, stepwise: false };
  const send = () => outgoing.send(mailbox, order, () => Promise.resolve(), signal);
  try {
    assert.equal((await send()).recipients[0]?.state, "sent");
    assert.equal(users(), 1);
    await server.stop();
    await assert.rejects(send(), (error) => error instanceof Problem && error.code === "connect");
    assert.equal(users(), 1);
  } finally {
    await outgoing.run(AbortSignal.abort());
    await server.stop();
  }
  assert.equal(users(), 0);
});
