/** A short run of the fuzzer over each target; `bun run fuzz` runs as long as wanted. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseMessage } from "../shared/mail/mime/message.ts";
import { TARGETS } from "./fuzz/targets.ts";

/** Cases of each target beside its share, and the seed of all. */
const [CASES, SEED] = [3000, 20_261_130];
/** What a short run may take in memory. */
const MOST_BYTES = 700_000_000;

describe("Whatever comes in, the service goes on and says what is wrong", () => {
  for (const { name, share, run } of TARGETS)
    test(`in ${name}`, async () => {
      const before = process.memoryUsage().rss;
      const { cases, failure } = await run({ cases: Math.ceil(CASES * share), seed: SEED });
      assert.equal(failure, undefined, failure);
      assert.ok(cases >= CASES * share);
      assert.ok(process.memoryUsage().rss - before < MOST_BYTES);
    });
});

/** What the fuzzer found, as it was found. */
const FOUND: Record<string, { raw: string; holds: RegExp }> = {
  "a part without an empty line between its header and its content": {
    raw: 'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: ;\r\nThe order, and some more.\r\n',
    holds: /The order/,
  },
  "a part whose boundary is on the next line, which is content": {
    raw: "Content-Type: multipart/mixed\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n--b\r\nContent-Type: multipart/digest; boundary=\r\nThe order, and some more.\r\n",
    holds: /The order/,
  },
  "parts that can be seen, in a multipart that calls itself base64": {
    raw: "Content-Type: multipart/mixed; boundary=x\r\nContent-Transfer-Encoding: base64\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nThe order.\r\n--b\r\nContent-Type: multipart/mixed; boundary=c\r\nContent-Transfer-Encoding: base64\r\n\r\nLS1jDQpDb250ZW50LVR5cGU6IHRleHQvcGxhaW4NCg0KaW5uZXINCi0tYy0tDQo=\r\n--b--\r\n",
    holds: /The order/,
  },
  "text of ASCII that calls itself UTF-16, with a zero byte": {
    raw: "Content-Type: text/plain; charset=utf-16\r\n\r\nThis is the order.\0",
    holds: /the order/,
  },
  "a last delimiter before the first part": {
    raw: "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b--\r\nThe order, and some more.\r\n",
    holds: /The order/,
  },
  "base64 of a multipart that lost a byte": {
    raw: "Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: base64\r\n\r\nLS1iDQpDb250ZW50LVR5cGU6IHRleHQvcGxhaW4N\0DQpUaGUgb3JkZXIsIGFuZCBzb21lIG1vcmUuDQo=\r\n",
    holds: /\S/,
  },
};

describe("What was found by fuzzing is never lost again", () => {
  for (const [name, { raw, holds }] of Object.entries(FOUND))
    test(name, async () => {
      const { text } = await parseMessage(Buffer.from(raw, "latin1"), { maxAttachmentBytes: 100_000 });
      assert.match(text ?? "", holds);
    });
});
