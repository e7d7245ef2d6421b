/** Proves how the fake Exchange server knows who asks, what they may do, and where it sends those who look for it. */
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { Agent, type IncomingHttpHeaders, request as httpRequest } from "node:http";
import { describe, test } from "node:test";
import { ANN, envelopeOf, post, withAnn } from "./servers/exchange/asking.ts";
import { md4 } from "./servers/exchange/ntlm.ts";
import type { Exchange } from "./servers/exchange/server.ts";
import { numbered } from "./servers/mail.ts";

/** A connection that is kept over requests: each asks for the inbox under this Authorization. */
function keptConnection({ port }: Exchange) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const body = envelopeOf(
    `<GetFolder><FolderShape><t:BaseShape>IdOnly</t:BaseShape></FolderShape>
    <FolderIds><t:DistinguishedFolderId Id="inbox"/></FolderIds></GetFolder>`,
  );
  return {
    post: (authorization: string | undefined) =>
      new Promise<{ status: number | undefined; headers: IncomingHttpHeaders }>((resolve, reject) => {
        const headers = { "content-type": "text/xml", ...(authorization ? { authorization } : {}) };
        const options = { host: "127.0.0.1", port, path: "/EWS/Exchange.asmx", method: "POST", agent, headers };
        const sent = httpRequest(options, (answer) => {
          answer.resume().once("end", () => resolve({ status: answer.statusCode, headers: answer.headers }));
        });
        sent.once("error", reject);
        sent.end(body);
      }),
    end: async () => agent.destroy(),
  };
}

const GREETING = Buffer.concat([Buffer.from("NTLMSSP\0\x01\0\0\0\x05\x82\x08\0", "latin1"), Buffer.alloc(16)]).toString(
  "base64",
);

const wide = (text: string) => Buffer.from(text, "utf16le");
const hmac = (key: Buffer, content: Buffer) => createHmac("md5", key).update(content).digest();

/** A third message with an NTLMv2 response for ann, whose hash is of the vectors' kind: HMAC-MD5 over MD4 ([MS-NLMP] 3.3.2). */
function ntlmAnswer(challenge: string, password: string): Buffer {
  const server = Buffer.from(challenge, "base64").subarray(24, 32);
  const blob = Buffer.concat([Buffer.from("0101000000000000", "hex"), Buffer.alloc(28)]);
  const key = hmac(md4(wide(password)), wide(ANN.toUpperCase()));
  const response = Buffer.concat([hmac(key, Buffer.concat([server, blob])), blob]);
  const message = Buffer.alloc(64 + wide(ANN).length + response.length);
  message.write("NTLMSSP\0", 0, "latin1");
  message.writeUInt32LE(3, 8);
  const place = (field: number, value: Buffer, offset: number) => {
    message.writeUInt16LE(value.length, field);
    message.writeUInt16LE(value.length, field + 2);
    message.writeUInt32LE(offset, field + 4);
    value.copy(message, offset);
  };
  place(36, wide(ANN), 64);
  place(20, response, 64 + wide(ANN).length);
  message.writeUInt32LE(1, 60);
  return message;
}

const INBOX = `<GetFolder><FolderShape><t:BaseShape>Default</t:BaseShape></FolderShape><FolderIds>
  <t:DistinguishedFolderId Id="inbox"/></FolderIds></GetFolder>`;

/** Asks autodiscover for Ann, with her password. */
function discover(server: Exchange, service: "xml" | "svc", body: string): Promise<string> {
  const authorization = `Basic ${Buffer.from(`${ANN}:secret`).toString("base64")}`;
  const headers = { "content-type": "text/xml", authorization };
  const url = server.autodiscoverUrl.replace(/xml$/, service);
  return fetch(url, { method: "POST", headers, body }).then((answer) => answer.text());
}

const POX = `<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006"><Request>
  <EMailAddress>${ANN}</EMailAddress><AcceptableResponseSchema>http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a</AcceptableResponseSchema>
  </Request></Autodiscover>`;

const SETTINGS = `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" xmlns="http://schemas.microsoft.com/exchange/2010/Autodiscover">
  <s:Body><GetUserSettingsRequestMessage><Request><Users><User><Mailbox>${ANN}</Mailbox></User></Users><RequestedSettings>
  <Setting>ExternalEwsUrl</Setting><Setting>GroupingInformation</Setting></RequestedSettings></Request>
  </GetUserSettingsRequestMessage></s:Body></s:Envelope>`;

describe("logins of the fake Exchange server", () => {
  test("its MD4 is that of RFC 1320", () => {
    assert.equal(md4(Buffer.from("")).toString("hex"), "31d6cfe0d16ae931b73c59d7e0c089c0");
    assert.equal(md4(Buffer.from("message digest")).toString("hex"), "d9130a8164549fe818874806e1c7014b");
    assert.equal(md4(Buffer.from("1234567890".repeat(8))).toString("hex"), "e33b4ddc9c38f2199c3e7b164fcc0536");
  });

  test("NTLM is proved by NTLMv2 alone, on one connection, and each challenge holds for one answer", async (t) => {
    const server = await withAnn(t);
    server.schemes = ["ntlm"];
    const wire = keptConnection(server);
    t.after(wire.end);
    const answered = async (password: string) => {
      const { headers } = await wire.post(`NTLM ${GREETING}`);
      const challenge = /^NTLM (.+)$/.exec(headers["www-authenticate"] ?? "")?.[1] ?? "";
      return `NTLM ${ntlmAnswer(challenge, password).toString("base64")}`;
    };
    assert.equal((await wire.post(undefined)).status, 401);
    assert.equal((await wire.post(await answered("wrong"))).status, 401);
    const good = await answered("secret");
    assert.equal((await wire.post(good)).status, 200);
    assert.equal((await wire.post(undefined)).status, 200, "the connection stays proven");
    const other = keptConnection(server);
    t.after(other.end);
    assert.equal((await other.post(good)).status, 401, "another connection has another challenge");
    assert.equal((await other.post(undefined)).status, 401);
  });

  test("a token logs its user in until it is forgotten, an expired password logs nobody in", async (t) => {
    const server = await withAnn(t);
    server.tokens.accept("a.b.c", ANN);
    const authorization = "Bearer a.b.c";
    assert.equal((await post(server, INBOX, { authorization })).status, 200);
    server.tokens.forget("a.b.c");
    assert.equal((await post(server, INBOX, { authorization })).status, 401);
    server.setPassword(ANN, "secret", { expired: true });
    assert.match(await (await post(server, INBOX)).text(), /ErrorPasswordExpired/);
  });

  test("who may act for a mailbox sees it, others are told that they may not, or that there is none", async (t) => {
    const server = await withAnn(t);
    await server.addUser("carl@corp.example", "-", { impersonators: [ANN] });
    await server.addUser("bob@corp.example", "-");
    await server.append("carl@corp.example", "inbox", numbered(1));
    const as = async (address: string) => {
      const sid = `<t:ConnectingSID><t:PrimarySmtpAddress>${address}</t:PrimarySmtpAddress></t:ConnectingSID>`;
      const header = `<t:ExchangeImpersonation>${sid}</t:ExchangeImpersonation>`;
      return (await post(server, INBOX, { header })).text();
    };
    assert.match(await as("carl@corp.example"), /<t:TotalCount>1</);
    assert.match(await as("bob@corp.example"), /a:ErrorImpersonateUserDenied</);
    assert.match(await as("eve@corp.example"), /a:ErrorNonExistentMailbox</);
    assert.equal(server.calls.at(-1)?.impersonated, "eve@corp.example");
  });

  test("autodiscover says where a mailbox is, or where to ask instead", async (t) => {
    const server = await withAnn(t);
    assert.match(await discover(server, "xml", POX), new RegExp(`<EwsUrl>${server.url}</EwsUrl>`));
    server.discovery.groups.set(ANN, "Site7");
    const settings = await discover(server, "svc", SETTINGS);
    assert.match(settings, new RegExp(`<Name>ExternalEwsUrl</Name><Value>${server.url}</Value>`));
    assert.match(settings, /<Name>GroupingInformation<\/Name><Value>Site7</);
    server.discovery.elsewhere.set(ANN, { address: "ann@new.example" });
    assert.match(await discover(server, "xml", POX), /<Action>redirectAddr<.*<RedirectAddr>ann@new.example</s);
    assert.match(await discover(server, "svc", SETTINGS), /RedirectAddress<.*<RedirectTarget>ann@new.example</s);
    server.discovery.redirect = "https://elsewhere.example/autodiscover/autodiscover.xml";
    const probe = await fetch(server.autodiscoverUrl, { redirect: "manual" });
    assert.equal(probe.headers.get("location"), server.discovery.redirect);
  });
});
