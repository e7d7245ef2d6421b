/** The protocol record of mailboxes on Exchange and Microsoft Graph: what was requested and answered, without secrets and mail. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { httpTap } from "../shared/mail/http/record/tap.ts";
import { shownUrl } from "../shared/mail/http/record/heads.ts";
import { showSoap } from "../shared/mail/ews/soap/shown.ts";
import { showJson } from "../shared/mail/graph/client/shown.ts";
import { ewsBody, graphBody, PASSWORD, register, toEndpoint } from "./bodies.ts";
import { expect } from "./cluster-rig.ts";
import { startExchange } from "./servers/exchange/server.ts";
import { startGraphServer } from "./servers/graph/server.ts";
import { message } from "./servers/mail.ts";
import type { Service } from "./service.ts";
import { nodeBeside, status } from "./stories/scene.ts";

const ANN = "ann@example.com";
const BODY = "marked-body-5e1f";
const SUBJECT = "marked-subject-77aa";
const FILE = "marked-file-91c0";
const TOKEN = "marked-token.0f3a5c7e9b1d.48c2";

const letter = () =>
  message({
    subject: SUBJECT,
    text: `${BODY}\r\n`.repeat(50),
    attachments: [{ filename: `${FILE}.txt`, content: FILE.repeat(300) }],
  });
const outgoing = (bytes: number) => ({
  to: ["bob@example.net"],
  subject: SUBJECT,
  text: BODY,
  attachments: [{ filename: `${FILE}.bin`, content: Buffer.from(FILE.repeat(bytes / FILE.length)).toString("base64") }],
});

/** Plain, and in base64 from each of its characters on. */
function formsOf(text: string): string[] {
  const encoded = [0, 1, 2].map((skip) =>
    Buffer.from("x".repeat(skip) + text)
      .toString("base64")
      .slice(4, -4),
  );
  return [text, ...encoded, Buffer.from(text, "utf16le").toString("base64").slice(4, -4)];
}

function checkNothingLeaks(record: string, secrets: string[]): void {
  assert.ok(record.length > 1_000, record);
  for (const form of [...secrets, PASSWORD, BODY, SUBJECT, FILE].flatMap(formsOf))
    assert.ok(!record.includes(form), `${form} is in\n${record}`);
  assert.ok(!/TlRMTVNTUAA|authtoken=[^[]|Bearer (?!\[)|Basic (?!\[)\S{6}/.test(record), record);
}

const recordOf = async (at: Service, id: string): Promise<string> =>
  expect(await at.call("GET", `/api/v1/mailboxes/${id}/record`), 200);
const recorded = (at: Service, id: string, wanted: RegExp) =>
  at.until(String(wanted), async () => {
    const text = await recordOf(at, id);
    return wanted.test(text) && text;
  });

/** Switches the record on, and waits until the connections have noticed. */
async function begin(service: Service, id: string): Promise<void> {
  expect(await service.call("POST", `/api/v1/mailboxes/${id}/record`), 200);
  await service.until("a recorded request", async () => {
    expect(await service.call("POST", `/api/v1/mailboxes/${id}/test`), 200);
    return / C: #1 /.test(await recordOf(service, id));
  });
}

describe("the record of a mailbox on Exchange", { timeout: 300_000 }, () => {
  const logins = [
    { name: "NTLM", schemes: ["ntlm"], receive: {}, head: /authorization: NTLM \[credentials\]/ },
    { name: "a password", schemes: ["basic"], receive: {}, head: /authorization: Basic \[credentials\]/ },
    {
      name: "a token",
      schemes: ["bearer"],
      receive: { auth: { user: ANN, accessToken: TOKEN } },
      head: /authorization: Bearer \[credentials\]/,
    },
  ] as const;
  for (const { name, schemes, receive, head } of logins)
    test(`has each request and answer, and nothing of mail and of a login by ${name}`, async () => {
      const exchange = await startExchange({ tls: true });
      await exchange.addUser(ANN, PASSWORD);
      exchange.schemes = [...schemes];
      exchange.tokens.accept(TOKEN, ANN);
      const { service, endpoint, end } = await nodeBeside(exchange, { PROBE_SECONDS: "2", FOLDER_POLL_SECONDS: "0.5" });
      try {
        const changes = { receive, deliver: toEndpoint(endpoint), send: { saveSent: "auto" } };
        const id = await register(service, ewsBody(exchange, ANN, changes));
        await status(service, id, "listening");
        await begin(service, id);
        await exchange.append(ANN, "inbox", letter());
        await endpoint.waitFor(1);
        expect(await service.call("POST", `/api/v1/mailboxes/${id}/messages?wait=20`, outgoing(40_000)), 200);
        const text = await recorded(service, id, /<CreateItem/);
        assert.match(text, /ews-[0-9a-f]{4} C: #\d+ POST https:\/\/127\.0\.0\.1:\d+\/EWS\/Exchange\.asmx \{/i);
        assert.match(text, /S: #\d+ 200 after \d+ ms \{/);
        assert.match(text, /<SyncFolderItems>/);
        assert.match(text, /<ResponseCode>NoError<\/>/);
        assert.match(text, /S: #\d+ \[\d+ bytes in \d+ ms\]/);
        assert.match(text, head);
        checkNothingLeaks(text, [TOKEN]);
      } finally {
        await end();
      }
    });
});

describe("the record of a mailbox whose Exchange server fails", { timeout: 300_000 }, () => {
  test("has what it answered, that it did not answer, and the words of a refusal without what they quote", async () => {
    const exchange = await startExchange({ tls: true });
    await exchange.addUser(ANN, PASSWORD);
    const { service, end } = await nodeBeside(exchange, { PROBE_SECONDS: "2", FOLDER_POLL_SECONDS: "0.5" });
    try {
      const changes = { send: { saveSent: "auto" } };
      const id = await register(service, ewsBody(exchange, ANN, changes));
      await status(service, id, "listening");
      await begin(service, id);
      const failing = async (fault: Parameters<typeof exchange.faults.always>[1]) => {
        exchange.faults.always("GetFolder", fault);
        expect(await service.call("POST", `/api/v1/mailboxes/${id}/test`), 200);
        exchange.faults.clear();
      };
      await failing({ cut: "before" });
      await failing({ soapFault: "ErrorInvalidRequest", message: `The value '${SUBJECT}' and "${BODY}" are wrong.` });
      exchange.faults.always("CreateItem", {
        responseCode: "ErrorInvalidRecipients",
        message: `At least one recipient of "${SUBJECT}" isn't valid.`,
      });
      await service.call("POST", `/api/v1/mailboxes/${id}/messages?wait=20`, outgoing(1_000));
      // The last one, because nothing is sent for as long as the server asks to wait.
      await failing({ status: 503, retryAfter: 60, body: SUBJECT });
      const text = await recorded(service, id, /S: #\d+ 503 after \d+ ms \{[^}]*retry-after: 60/);
      assert.match(text, /<ResponseCode>ErrorInvalidRecipients<\/>/);
      assert.match(text, /S: #\d+ \[no answer after \d+ ms: /);
      assert.match(text, /<faultcode>[^<]*ErrorInvalidRequest<\/>.*The value '\[\d+ characters\]' are wrong\./);
      // Everything up to the last mark may be a quotation.
      assert.match(text, /<MessageText>At least one recipient of '\[\d+ characters\]'t valid\.<\/>/);
      checkNothingLeaks(text, []);
    } finally {
      await end();
    }
  });
});

describe("the record of a mailbox by Microsoft Graph", { timeout: 300_000 }, () => {
  test("has each request and answer, and nothing of mail, tokens and addresses of uploads", async () => {
    const server = await startGraphServer();
    await server.addUser(ANN);
    const { service, endpoint, end } = await nodeBeside(server, { PROBE_SECONDS: "1", FOLDER_POLL_SECONDS: "0.4" });
    try {
      const changes = { deliver: toEndpoint(endpoint), send: { saveSent: "auto" } };
      const id = await register(service, graphBody(server, ANN, changes));
      await status(service, id, "polling");
      await begin(service, id);
      await server.append(ANN, "inbox", letter());
      await endpoint.waitFor(1);
      // So large that it goes in pieces to an address that is a secret.
      expect(await service.call("POST", `/api/v1/mailboxes/${id}/messages?wait=20`, outgoing(5_000_000)), 200);
      const text = await recorded(service, id, /PUT http:\/\/[^/]+\/\[address\]/);
      assert.match(text, /graph-[0-9a-f]{4} C: #\d+ GET http\S+\/mailFolders\/inbox\?\$select=id \{/);
      assert.match(text, /C: #\d+ GET \S+\/delta\?\S*\$deltatoken=\[\d+ characters\]/i);
      assert.match(text, /S: #\d+ 200 after \d+ ms \{[^}]*request-id: /);
      assert.match(text, /authorization: Bearer \[credentials\]/);
      const tokens = server.tokenRequests.length;
      assert.ok(tokens > 0);
      checkNothingLeaks(text, [server.clientSecret]);
      assert.ok(!/eyJ[\w-]{8}/.test(text), text);
    } finally {
      await end();
    }
  });
});

/** What one exchange tells. */
function tellOne(showBodies: typeof showSoap, type: string, pieces: string[], secrets: string[] = []): string[] {
  const lines: string[] = [];
  const openTap = () => ({
    isOn: () => true,
    line: (from: string, text: string) => void lines.push(`${from}: ${text}`),
  });
  const tap = httpTap({ openTap, showBodies }, { id: "m" }, "test", () => secrets);
  const url = new URL("https://mail.example.com/one");
  const told = tap.begin({ method: "POST", url, headers: {}, body: "" });
  const headers = { "content-type": type, "set-cookie": ["secret-cookie"], location: "https://secret.example.com" };
  told?.answered({ statusCode: 200, headers } as never);
  for (const piece of pieces) told?.part(Buffer.from(piece));
  told?.ended(true);
  return lines;
}

const pieces = (text: string, size: number) => text.match(new RegExp(`[^]{1,${size}}`, "g")) ?? [];

describe("what is shown of a body", () => {
  const soap =
    "<s:Envelope xmlns:s=\"x\"><s:Body><GetItemResponse><MessageText>The value 'Hello Bob' is wrong. See 'it's mine'</MessageText>" +
    '<ItemId Id="AAMkAGI2TG93AAA=AAMkAGI2TG93AAA=AAMkAGI2TG93AAA=" Other="Hello Bob"/><Subject>Hello Bob</Subject>' +
    "<MessageXml><Value>1500</Value></MessageXml><ExtendedProperty><Value>1500</Value></ExtendedProperty>" +
    "<MimeContent>SGVsbG8gQm9i</MimeContent></GetItemResponse></s:Body></s:Envelope>";
  const json = JSON.stringify({
    error: { code: "ErrorOne", message: "The text 'Hello Bob' is wrong" },
    value: [{ id: "1", subject: "Hello Bob", isRead: false, size: 12, body: { content: 'Hello \\" Bob: "code":"x"' } }],
    "@odata.deltaLink": "https://graph.example.com/delta?$deltatoken=abcdef",
  });
  test("is the same however its bytes are cut", () => {
    for (const [show, type, text] of [
      [showSoap, "text/xml; charset=utf-8", soap],
      [showJson, "application/json", json],
    ] as const) {
      const whole = tellOne(show, type, [text]);
      assert.ok(!/Hello|Bob|SGVs|cookie|secret|mine|abcdef/.test(whole.join("\n")), whole.join("\n"));
      for (const size of [1, 2, 3, 7, 50])
        assert.deepEqual(
          tellOne(show, type, pieces(text, size))
            .filter((line) => !line.endsWith("ms]"))
            .slice(-1),
          whole.filter((line) => !line.endsWith("ms]")).slice(-1),
          `pieces of ${size}`,
        );
    }
  });

  test("is what belongs to the protocol", () => {
    assert.match(
      tellOne(showSoap, "text/xml", [soap]).join(),
      /<MessageXml><Value>1500<\/><\/><ExtendedProperty><Value>\[4 bytes\]/,
    );
    assert.match(tellOne(showSoap, "text/xml", [soap]).join(), /<ItemId Id="…TG93AAA=" Other="\[9 characters\]">/);
    const shown = tellOne(showJson, "application/json", [json]).join();
    assert.match(shown, /"code":"ErrorOne","message":"The text '\[9 characters\]' is wrong"/);
    assert.match(shown, /"id":"1","subject":\[9 characters\],"isRead":false,"size":12/);
  });

  test("is its size where it is long, of another type, or no XML", () => {
    assert.match(tellOne(showSoap, "text/html", ["<ResponseCode>x</ResponseCode>"]).join(), /\[30 bytes in/);
    assert.ok(!tellOne(showSoap, "text/html", ["<ResponseCode>x</ResponseCode>"]).join().includes("<Resp"));
    assert.match(tellOne(showSoap, "text/xml", ["<!DOCTYPE x [", "<a>b</a>"]).join(), /\[the rest is no XML\]/);
    const long = tellOne(
      showSoap,
      "text/xml",
      Array.from({ length: 2_000 }, () => "<ResponseCode>NoError</ResponseCode>"),
    );
    assert.ok(long.every((line) => line.length < 1_000));
    assert.match(long.join(), /… \[shortened\]/);
  });

  test("is of a URL its place, with ids and options of unknown meaning shortened", () => {
    const id = "A".repeat(60);
    const url = new URL(`https://graph.example.com/v1.0/users/ann/messages/${id}bcdefghi?$select=id&$skiptoken=secret`);
    assert.equal(
      shownUrl(url),
      "https://graph.example.com/v1.0/users/ann/messages/…bcdefghi?$select=id&$skiptoken=[6 characters]",
    );
    assert.equal(shownUrl(url, true), "https://graph.example.com/[address]");
  });
});
