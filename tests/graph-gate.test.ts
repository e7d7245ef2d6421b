/** The limit of requests at once for a Graph mailbox, kept by all nodes together. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { openMailbox } from "../shared/mail/open.ts";
import { requestGate } from "../shared/mail/graph/client/gate.ts";
import { graphService } from "../shared/mail/graph/client/service.ts";
import { memoryConnectionSlots } from "../shared/store/memory/connection-slots.ts";
import { all, isProblem, watchOn } from "./promises/mailbox-rig.ts";
import { graphDeps, graphMailboxOn } from "./promises/graph-rig.ts";
import { startGraphServer } from "./servers/graph/server.ts";
import { numbered } from "./servers/mail.ts";

const { signal } = new AbortController();
const away = () => Promise.reject(new Error("The store is away"));
const range = (count: number) => Array.from({ length: count }, (_, index) => index);

describe("The gate of a Graph mailbox", () => {
  test("lets four requests pass at once over all nodes, three of them downloads", async () => {
    const slots = memoryConnectionSlots();
    const nodes = [requestGate(slots), requestGate(slots), requestGate(slots)];
    const now = { short: 0, download: 0 };
    const most = { all: 0, download: 0 };
    const request = async (gate: (typeof nodes)[number], kind: "short" | "download") => {
      using _ = await gate.enter("ann", kind, signal);
      now[kind] += 1;
      most.all = Math.max(most.all, now.short + now.download);
      most.download = Math.max(most.download, now.download);
      await new Promise((resolve) => setTimeout(resolve, 5));
      now[kind] -= 1;
    };
    const work = range(20).flatMap(() => nodes.flatMap((gate) => [request(gate, "short"), request(gate, "download")]));
    await Promise.all(work);
    assert.deepEqual(most, { all: 4, download: 3 });
    using other = await nodes[0]!.enter("bob", "short", signal);
    assert.ok(other);
  });

  test("keeps a node's own limit while the store does not answer", async () => {
    const gate = requestGate({ acquire: away, renew: away, release: away });
    const held = await Promise.all(range(4).map(() => gate.enter("ann", "short", signal)));
    const fifth = new AbortController();
    const waiting = gate.enter("ann", "short", fifth.signal);
    fifth.abort(new Error("It waits"));
    await assert.rejects(waiting, /It waits/);
    held[0]?.release();
    (await gate.enter("ann", "short", signal)).release();
    for (const one of held) one.release();
  });

  test("makes only the mailbox wait that Graph asks to wait, and says until when if that is long", async () => {
    const gate = requestGate();
    gate.pause("ann", Date.now() + 300_000, false);
    await assert.rejects(gate.enter("ann", "short", signal), isProblem("throttled"));
    (await gate.enter("bob", "short", signal)).release();
  });

  test("lets two pass after two answers in a row that too many were there at once", async () => {
    const gate = requestGate();
    gate.pause("ann", 0, true);
    gate.pause("ann", 0, true);
    const held = await Promise.all(range(2).map(() => gate.enter("ann", "short", signal)));
    const third = new AbortController();
    const waiting = gate.enter("ann", "short", third.signal);
    third.abort(new Error("It waits"));
    await assert.rejects(waiting, /It waits/);
    for (const one of held) one.release();
  });

  test("holds while one node watches and two others download", async () => {
    const server = await startGraphServer({ behaviour: { latencyMs: 5 } });
    await server.addUser("ann");
    await server.appendMany(
      "ann",
      "inbox",
      range(40).map((n) => numbered(n)),
    );
    const slots = memoryConnectionSlots();
    const node = () => graphDeps({ graph: graphService(slots) });
    const mailbox = graphMailboxOn(server, "ann");
    const watch = watchOn(mailbox, node());
    const workers = [openMailbox.graph(node(), mailbox), openMailbox.graph(node(), mailbox)];
    try {
      await watch.connected();
      const refs = (await all(workers[0]!.listSince(new Date(0), [], signal))).flat();
      const downloads = workers.flatMap((one) =>
        range(2).map((part) => one.fetch(refs.slice(part * 20, part * 20 + 20), signal)),
      );
      const got = (await Promise.all(downloads.map((one) => all(one)))).flat();
      assert.equal(got.filter((one) => "raw" in one).length, 80);
      assert.ok(server.mostAtOnce() <= 4, String(server.mostAtOnce()));
      assert.equal(server.requests.filter(({ status }) => status === 429).length, 0);
    } finally {
      await Promise.all([watch.stop(), ...workers.map((one) => one.close())]);
      await server.stop();
    }
  });
});
