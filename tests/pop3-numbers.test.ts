/** The uids that the service assigns to messages of a maildrop: one for each, for ever, whatever crashes or is deleted between two comparisons. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { parseAssignedUids } from "../shared/mail/assigned-uids.ts";
import type { Cursor } from "../shared/contract/message.ts";
import { splitMissing } from "../shared/mail/pop3/missing.ts";
import { maildropPool } from "../shared/mail/pop3/maildrops.ts";
import { PASSWORD } from "./bodies.ts";
import { depsFor, maildropOn, watchOn } from "./promises/mailbox-rig.ts";
import { numbered } from "./servers/mail.ts";
import { type Pop3Server, startPop3Server } from "./servers/pop3.ts";

const FEW = 230;

function oneEach(given: { key: string; uid: number }[], count: number) {
  const pairs = new Set(given.map(({ key, uid }) => `${key} ${uid}`));
  const [keys, uids] = [new Set(given.map(({ key }) => key)), new Set(given.map(({ uid }) => uid))];
  assert.deepEqual([pairs.size, keys.size, uids.size], [count, count, count]);
}

describe("the numbers of a maildrop's messages", () => {
  let server: Pop3Server;
  before(async () => {
    server = await startPop3Server();
  });
  after(async () => server.stop());

  function drop(user: string) {
    server.addUser(user, PASSWORD);
    const place = { host: server.host, ca: server.ca, pop3Port: server.port, pop3sPort: server.tlsPort };
    const mailbox = maildropOn(place, user, { since: "2001-01-01", poll: { everySeconds: 10 } });
    const given: { key: string; uid: number }[] = [];
    let count = 0;
    return {
      given,
      add(messages: number) {
        for (let n = 0; n < messages; n++) server.add(user, numbered(++count), `id${count}`);
      },
      remove: (...ids: number[]) => ids.forEach((id) => server.remove(user, `id${id}`)),
      show: (id: number) => server.add(user, numbered(id), `id${id}`),
      /** One look from this cursor; the crash comes when so many arrivals are handed over, before the last one's cursor is kept. */
      async look(from: Cursor | undefined, crashAfter = Infinity) {
        const watch = watchOn(mailbox, depsFor({ maildrops: maildropPool(50) }), from ? [from] : []);
        await watch.connected();
        await watch.stop();
        const handed = watch.arrivals.slice(0, crashAfter);
        for (const { messages } of handed) for (const { key = "", uid } of messages) given.push({ key, uid });
        const kept = handed.slice(0, crashAfter === Infinity ? undefined : -1).at(-1)?.cursor ?? from;
        return { kept, crashed: watch.arrivals.length >= crashAfter };
      },
    };
  }

  for (const earlier of [0, FEW]) {
    test(`survive a crash after any hand-over while older ones are deleted, ${earlier} looked at before`, async () => {
      for (let steps = 1, more = true; more; steps++) {
        const one = drop(`earlier${earlier}.steps${steps}`);
        one.add(earlier);
        const { kept: start } = earlier > 0 ? await one.look(undefined) : { kept: undefined };
        one.add(FEW);
        const first = await one.look(start, steps);
        const handed = one.given.length;
        // What was handed over may be delivered and deleted before anybody looks again, the highest number among it.
        one.remove(1, earlier + 1, handed);
        one.add(3);
        const second = await one.look(first.kept, 2);
        one.remove(earlier + 2, earlier + FEW + 3);
        one.add(3);
        await one.look(second.kept);
        // What was deleted before it was handed over never gets a number that is seen.
        const unseen = [1, earlier + 1, handed, earlier + 2, earlier + FEW + 3].filter(
          (id) => id > 0 && !one.given.some(({ key }) => key === `id${id}`),
        );
        oneEach(one.given, earlier + FEW + 6 - new Set(unseen).size);
        more = first.crashed;
      }
    });
  }

  test("do not end a message that is hidden after its number was stored: when it is back, it is handed over", async () => {
    for (const news of [0, 1]) {
      const one = drop(`hidden${news}`);
      one.add(1);
      const { kept: start } = await one.look(undefined);
      one.add(1);
      const { kept: counted } = await one.look(start, 2);
      const handed = one.given.length;
      one.remove(2);
      one.add(news);
      const { kept: passed } = await one.look(counted);
      one.show(2);
      await one.look(passed);
      const again = one.given.slice(handed).filter(({ key }) => key === "id2");
      assert.equal(again.length, 1);
      assert.ok((again[0]?.uid ?? 0) > (passed?.uid ?? 0), "a number that the cursor has not passed");
    }
  });

  test("are not kept twice when nothing is new; of messages that are gone only the names are kept", async () => {
    const one = drop("quiet");
    one.add(5);
    const { kept } = await one.look(undefined);
    const watch = await one.look(kept);
    assert.deepEqual(watch.kept, kept);
    one.remove(1, 2, 3, 4, 5);
    const empty = await one.look(kept);
    assert.equal(empty.kept?.uid, 5);
    const { uids, missing } = splitMissing(parseAssignedUids(empty.kept?.state ?? null));
    assert.deepEqual([uids.size, missing.size], [0, 5]);
    const later = await one.look(empty.kept);
    assert.deepEqual(later.kept, empty.kept);
  });
});
