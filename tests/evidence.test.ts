/** What servers say is shown without the secrets and the messages that they were given, in whatever form they repeat them. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, test } from "node:test";
import { Problem } from "../shared/contract/problem.ts";
import { quoteWords, withoutGiven } from "../shared/evidence/evidence.ts";

const base64 = (bytes: string | Uint8Array) => Buffer.from(bytes as string).toString("base64");
const bytesOf = (text: string, write: (byte: number) => string) => [...Buffer.from(text)].map(write).join("");
const escaped = (text: string) => JSON.stringify(text).slice(1, -1);
const misread = (text: string) => Buffer.from(text).toString("latin1");

/** The forms in which servers, proxies and languages repeat what they were sent. */
const FORMS: Record<string, (secret: string) => string> = {
  "as it is": (one) => one,
  quoted: (one) => `"${one.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`,
  "in JSON": escaped,
  "in JSON in JSON": (one) => escaped(escaped(one)),
  "in JSON in JSON in JSON": (one) => escaped(escaped(escaped(one))),
  "in base64": base64,
  "in base64 after one byte": (one) => base64(`x${one}`),
  "in base64 after two bytes": (one) => base64(`xy${one}`),
  "in SASL PLAIN": (one) => base64(`\0u\0${one}`),
  "in base64 without its beginning": (one) => base64(`xy${one}`).slice(5),
  "in base64 for URLs": (one) => Buffer.from(one).toString("base64url"),
  "in base64, percent-encoded": (one) => encodeURIComponent(base64(one)),
  "in base64 of base64": (one) => base64(base64(one)),
  "in base64 of headers with Basic": (one) => base64(JSON.stringify({ authorization: `Basic ${base64(`u:${one}`)}` })),
  "in base64 of UTF-16": (one) => base64(Buffer.from(one, "utf16le")),
  "in UTF-16": (one) => Buffer.from(one, "utf16le").toString("latin1"),
  "percent-encoded": encodeURIComponent,
  "percent-encoded twice": (one) => encodeURIComponent(encodeURIComponent(one)),
  "percent-encoded byte by byte": (one) => bytesOf(one, (byte) => `%${byte.toString(16).padStart(2, "0")}`),
  "in a form": (one) => new URLSearchParams({ password: one }).toString(),
  "quoted-printable": (one) => bytesOf(one, (byte) => `=${byte.toString(16).toUpperCase().padStart(2, "0")}`),
  "in hex": (one) => Buffer.from(one).toString("hex"),
  "in hex with spaces": (one) => bytesOf(one, (byte) => `${byte.toString(16).padStart(2, "0")} `),
  "in hex, byte by byte": (one) => bytesOf(one, (byte) => `0x${byte.toString(16).padStart(2, "0")}, `),
  "as numbers": (one) => JSON.stringify(Buffer.from(one)),
  "as octal numbers": (one) => bytesOf(one, (byte) => `${byte.toString(8).padStart(3, "0")} `),
  "as a list of characters": (one) => JSON.stringify([...one]),
  "in octal": (one) => bytesOf(one, (byte) => `\\${byte.toString(8).padStart(3, "0")}`),
  "as \\x": (one) => bytesOf(one, (byte) => `\\x${byte.toString(16).padStart(2, "0")}`),
  "as \\u": (one) => [...one].map((c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`).join(""),
  "in HTML": (one) => one.replaceAll("&", "&amp;").replaceAll('"', "&quot;").replaceAll("<", "&lt;"),
  "as HTML numbers": (one) => [...one].map((c) => `&#${c.codePointAt(0)};`).join(""),
  "as Latin-1": misread,
  "as Latin-1 twice": (one) => misread(misread(one)),
  "as Windows-1251": (one) => new TextDecoder("windows-1251").decode(Buffer.from(one)),
  "in upper case": (one) => one.toUpperCase(),
  "in lower case": (one) => one.toLowerCase(),
  backwards: (one) => [...one].toReversed().join(""),
  "with spaces": (one) => [...one].join(" "),
  "over two lines": (one) => `${one.slice(0, 5)}\r\n ${one.slice(5)}`,
  "six characters of it": (one) => one.slice(3, 9),
  "its end": (one) => one.slice(-6),
};
const SECRETS = ['Marked"Pass\\word-7731', "пароль-Секрет-77", "naïve café Ünï", "$%^&*()!@#{}[]<>", "a b+c/d=e%41f"];

describe("What a server says has no part of a secret in it", () => {
  for (const [form, write] of Object.entries(FORMS)) {
    test(`repeated ${form}`, () => {
      for (const secret of SECRETS) {
        const shown = quoteWords(`NO I heard: ${write(secret)} from you`, { secrets: ["other secret", secret] });
        assert.match(shown, /^NO I heard: .*\[secret\].* from you$/, secret);
        const rest = shown.replaceAll(/\[secret\]|^NO I heard:| from you$/g, "");
        // The names around the value in a form, in JSON or in a buffer may stay.
        assert.ok(rest.length <= 30, `${secret}: ${shown}`);
      }
    });
  }

  test("a long token and a key are found by any of their parts, and the frame of a key is none", () => {
    const token = createHash("sha512").update("x").digest("base64url").repeat(20);
    assert.equal(quoteWords(`bad ${token.slice(700, 760)}.`, { secrets: [token] }), "bad [secret].");
    const key = `-----BEGIN PRIVATE KEY-----\n${base64("k".repeat(90))}\n-----END PRIVATE KEY-----`;
    assert.equal(quoteWords("PRIVATE KEY refused", { secrets: [key] }), "PRIVATE KEY refused");
  });

  test("short secrets cut nothing out of ordinary words", () => {
    const words =
      "535 5.7.8 [AUTH] Login invalid: try again in 15 minutes, or see https://example.com/help?p=1 - the server";
    for (const secret of ["a", "in", "er", "15", "the", "log", "try", "-", ".", "or", "535", "ok", "Login"])
      assert.equal(quoteWords(words, { secrets: [secret] }), words, secret);
  });

  test("short secrets are hidden where they stand as a value", () => {
    const said = [
      '1 LOGIN "u" "the"',
      "1 LOGIN u the",
      "PASS the",
      "password=the&x=1",
      "u:the",
      `AUTH PLAIN ${base64("\0u\0the")}`,
      "\0u\0the",
      '{\\"password\\":\\"the\\"}',
    ];
    for (const words of said) assert.doesNotMatch(quoteWords(words, { secrets: ["the"] }), /\bthe\b|dGhl/, words);
    for (const words of ["I heard x7Q here", base64("\0u\0x7Q")])
      assert.match(quoteWords(words, { secrets: ["x7Q"] }), /^(I heard )?\[secret\]( here)?$/, words);
  });

  test("it is one printable line of at most 500 characters, and nothing is found where nothing is", () => {
    assert.equal(quoteWords("a\r\nb\u001b[31m\u202ec\ud800", { secrets: [] }), "a b [31mc\ufffd");
    assert.equal(quoteWords("x".repeat(1500), { secrets: [] }).length, 500);
    assert.equal(
      quoteWords("Invalid credentials (Failure)", { secrets: ["", " ", "Aa1!Aa1!"] }),
      "Invalid credentials (Failure)",
    );
  });
});

describe("What a server says has no part of a message in it", () => {
  const text = "The contract with Miller ends on the 5th of May, and nobody knows it.";
  const message = Buffer.from(`Subject: hi\r\nContent-Type: text/plain\r\n\r\n${text}\r\n`);

  for (const form of ["as it is", "in base64", "in JSON in JSON", "percent-encoded", "in hex", "with spaces"]) {
    test(`repeated ${form}`, () => {
      const shown = quoteWords(`554 I heard: ${FORMS[form]?.(text.slice(4, 60))}`, { secrets: [], message });
      assert.match(shown, /^554 I heard: \[message\]/);
      assert.ok(shown.length < 45, shown);
    });
  }

  test("of its base64 and its quoted-printable text neither", () => {
    for (const encoded of [base64(text), text.replaceAll("e", "=65").replaceAll("i", "=\r\ni")]) {
      const given = { secrets: [], message: `Subject: hi\r\n\r\n${encoded}\r\n` };
      assert.equal(quoteWords(`554 no: ${text}`, given), "554 no: [message]");
    }
  });

  test("words that both have by chance stay", () => {
    const words = "552 5.3.4 Content-Type not allowed, the message is too large";
    assert.equal(quoteWords(words, { secrets: [], message }), words);
  });

  test("a message of one letter against words of one letter takes no longer than another", () => {
    const startedAt = performance.now();
    quoteWords("x".repeat(1000), { secrets: [], message: "x".repeat(5_000_000) });
    assert.ok(performance.now() - startedAt < 5_000);
  });
});

test("a Problem without its secrets keeps everything else", () => {
  const cause = new Error("inner");
  const problem = new Problem("auth", "It said hunter2hunter2", {
    retry: "never",
    fix: "Fix it",
    cause,
    evidence: quoteWords("PASS hunter2hunter2", { secrets: [] }),
  });
  const shown = withoutGiven(problem, { secrets: ["hunter2hunter2"] });
  assert.deepEqual(
    [shown.code, shown.message, shown.evidence, shown.retry, shown.fix, shown.cause],
    ["auth", "It said [secret]", "PASS [secret]", "never", "Fix it", cause],
  );
  assert.equal(withoutGiven(problem, { secrets: ["something else"] }), problem);
});
