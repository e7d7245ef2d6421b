/** Time: reading a message costs no more than a constant for each of its bytes, whatever the bytes are. */
import { describe, test } from "node:test";
import { parseMessage } from "../shared/mail/mime/message.ts";
import { assertLinear } from "./letters/cost.ts";
import { slowValues } from "./letters/slow-values.ts";
import { slowLetters } from "./letters/slow.ts";

describe("A message made to cost takes time in proportion to its size", () => {
  for (const [name, grow] of Object.entries({ ...slowLetters, ...slowValues }))
    test(name, () => assertLinear(grow, (message) => parseMessage(message, { maxAttachmentBytes: 1_000_000 })));
});
