/** What the one session of a mail connection promises at its end: everything that was opened is closed. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createReconnectingSession } from "../shared/mail/reconnecting.ts";
import { isProblem } from "./promises/mailbox-rig.ts";

test("a session that is ready just as its connection is closed is closed too, and given to nobody", async () => {
  const ready = Promise.withResolvers<void>();
  let open = false;
  const mine = createReconnectingSession(async () => {
    await ready.promise;
    open = true;
    const close = () => {
      open = false;
      return Promise.resolve();
    };
    return {
      get open() {
        return open;
      },
      close,
    };
  });
  const asked = mine.getSession(AbortSignal.timeout(60_000));
  const refused = assert.rejects(asked, isProblem("connect", "later"));
  await mine.close();
  ready.resolve();
  await refused;
  assert.equal(open, false);
  assert.equal(mine.open, false);
});
