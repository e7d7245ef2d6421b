/** Header values of strangers and of clients: any text gives addresses, dates and ids that are well-formed, or a Problem. */
import assert from "node:assert/strict";
import * as fc from "fast-check";
import { Problem } from "../../shared/contract/problem.ts";
import { limitedReasons } from "../../shared/mail/mime/limits.ts";
import { parseAddresses } from "../../shared/mail/mime/values/addresses.ts";
import { toIsoDate } from "../../shared/mail/mime/values/dates.ts";
import { parseMessageIds } from "../../shared/mail/mime/values/message-ids.ts";
import { parseParameters } from "../../shared/mail/mime/values/parameters.ts";
import { parseAddressHeader, parseParties } from "../../shared/mail/smtp/addresses.ts";

// prettier-ignore
const PIECES = ["bob@b.example", "<bob@b.example>", "Bob", "Doe, Bob", '"Doe, Bob"', "(Bob)", ",", ";", ":", "<", ">", "@", '"', "\\", "(", ")", "'", " ", "\t",
  "=?utf-8?Q?B=C3=B6b?=", "=?utf-8?B?Qg==?=", "=?x?Q?=", "?=", "undisclosed-recipients:;", "@a.example,@b.example:", "mailto:", "[192.0.2.1]", "\u00E9", "\u0000", "\uD800",
  "Mon, 5 Jan 2026 10:00:00 +0100", "5 Jan", "2026-01-05T10:00:00Z", "99:99", "+9999", "GMT", "PM", "a=b", ";a*0*=utf-8''%C3", ";a*1=b", "="];

const value = fc
  .array(fc.oneof({ weight: 5, arbitrary: fc.constantFrom(...PIECES) }, fc.string({ unit: "binary", maxLength: 5 })), {
    maxLength: 12,
  })
  .map((pieces) => pieces.join(""));

/** What is read; nothing where the value is refused by a Problem. */
function readOrRefuse<T>(read: () => T[]): T[] {
  try {
    return read();
  } catch (error) {
    if (error instanceof Problem) return [];
    throw error;
  }
}

/** Fails if a reader of values throws anything but a Problem, or gives what no program can store. */
export const readsValues = fc.property(value, (text) => {
  for (const { name, address } of parseAddresses(text)) assert.ok(`${name}${address}` !== "");
  for (const address of readOrRefuse(() => parseAddressHeader(text))) assert.match(address, /^[^\s<>\0]+$/);
  readOrRefuse(() => parseParties([text], "to", []));
  const date = toIsoDate(text);
  assert.ok(date === null || !Number.isNaN(Date.parse(date)), date ?? "");
  for (const id of parseMessageIds(text, limitedReasons())) assert.match(id, /^<[^<>\s]*>$/);
  assert.equal(parseParameters(text).value, parseParameters(text).value.toLowerCase());
});

/** Fails if an address among words is not found. */
export const findsAddresses = fc.property(
  fc.array(fc.constantFrom("Bob", "Doe,", "Dr.", "=?utf-8?Q?B=C3=B6b?=", '"B"', "'", "-", "&")),
  (words) => {
    const found = parseAddresses(`${words.join(" ")} <bob@b.example>`);
    assert.ok(
      found.some(({ address }) => address === "bob@b.example"),
      JSON.stringify(found),
    );
  },
);
