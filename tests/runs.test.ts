/** Runs of a polled mailbox that take longer than their interval, with and without a process lock. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { singleLeases } from "../api/lease/single.ts";
import { watchMailbox } from "../api/listen/watch.ts";
import type { Cursor, MessageRef } from "../shared/contract/message.ts";
import type { WatchEvent } from "../shared/mail/mail.ts";
import { openMailbox } from "../shared/mail/open.ts";
import { maildropPool } from "../shared/mail/pop3/maildrops.ts";
import type { FactBody } from "../shared/telemetry/events.ts";
import { PASSWORD } from "./bodies.ts";
import { depsFor, maildropOn } from "./promises/mailbox-rig.ts";
import { numbered } from "./servers/mail.ts";
import { type Pop3Server, startPop3Server } from "./servers/pop3.ts";
import { eventually } from "./servers/waiting.ts";

const [MESSAGES, BATCHES] = [500, 5];

describe("a run that outlives its interval", () => {
  let server: Pop3Server;
  before(async () => {
    server = await startPop3Server();
    for (const user of ["loose", "locked"]) {
      server.addUser(user, PASSWORD);
      for (let n = 0; n < MESSAGES; n++) server.add(user, numbered(n));
    }
  });
  after(async () => server.stop());

  /** Two pickers after one mailbox, each batch of which takes longer to hand over than the interval lasts. */
  async function picked(user: string, processLock: boolean) {
    const facts: FactBody[] = [];
    const handed: MessageRef[] = [];
    const signs: WatchEvent["kind"][] = [];
    let cursor: Cursor | undefined;
    let fences = 0;
    let [pickers, most, holds] = [0, 0, 0];
    const stop = new AbortController();
    const leases = singleLeases({ issueFence: async () => ++fences });
    const cursors = {
      fence: async () => fences,
      read: async () => (cursor ? [cursor] : []),
      advance: async (_: string, to: Cursor) => void (cursor = to),
      reopen: async () => undefined,
    };
    const place = { host: server.host, ca: server.ca, pop3Port: server.port, pop3sPort: server.tlsPort };
    const box = maildropOn(place, user, { since: "2001-01-01", processLock, poll: { everySeconds: 0.3 } });
    const deps = depsFor({ maildrops: maildropPool() });
    const tasks = {
      async send(task: { messages?: MessageRef[] }) {
        most = Math.max(most, ++pickers);
        await sleep(400);
        handed.push(...(task.messages ?? []));
        pickers -= 1;
      },
    };
    const tell = (sign: { kind: string }) => void signs.push(sign.kind as WatchEvent["kind"]);
    const picker = async () => {
      while (!stop.signal.aborted) {
        const work = async (lease: Parameters<Parameters<typeof leases.hold>[1]>[0]) => {
          holds += 1;
          const connection = openMailbox.pop3(deps, box);
          const watching = { cursors, tasks, emit: (fact: FactBody) => void facts.push(fact) } as never;
          await watchMailbox(watching, box, connection, lease, tell).finally(() => connection.close());
        };
        await leases.hold(box.id, work, stop.signal).catch(() => undefined);
      }
    };
    const both = [picker(), picker()];
    await eventually(() => handed.length >= MESSAGES, "all messages to be handed over", 30_000);
    await sleep(700);
    stop.abort(new DOMException("over", "AbortError"));
    await Promise.all(both);
    assert.deepEqual(
      handed.map(({ uid }) => uid),
      Array.from({ length: MESSAGES }, (_, index) => index + 1),
      "each once, in order",
    );
    assert.equal(most, 1, "never two pickers at once");
    return { overran: facts.filter(({ kind }) => kind === "mailbox.poll_overran"), holds, signs };
  }

  test("ends with it, is seen, and whoever holds the lease next goes on behind the cursor", async () => {
    const { overran, holds } = await picked("loose", false);
    assert.ok(overran.length >= BATCHES - 1, `${overran.length} facts`);
    assert.ok(overran.every((fact) => "finished" in fact && !fact.finished));
    assert.ok(holds >= BATCHES);
  });

  test("is finished with a process lock, and the runs that fell due meanwhile become one", async () => {
    const { overran, signs } = await picked("locked", true);
    assert.equal(overran.length, 0, "nothing was cut short");
    const first = signs.indexOf("ran");
    assert.equal(signs.slice(0, first).filter((kind) => kind === "run").length, 1);
    const late = signs.slice(first).filter((kind) => kind === "run").length;
    assert.ok(late >= 1 && late <= 5, `${late} runs in the time of two or three`);
  });
});
