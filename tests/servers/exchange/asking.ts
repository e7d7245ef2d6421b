/** Plain SOAP requests to the fake Exchange server, for the tests of the server itself. */
import { type Exchange, type ExchangeOptions, startExchange } from "./server.ts";
import { at, readXml, type Xml } from "./xml.ts";

/** A user of these tests; her password is "secret". */
export const ANN = "ann@corp.example";
const BASIC = `Basic ${Buffer.from(`${ANN}:secret`).toString("base64")}`;

/** A server with Ann's mailbox, which ends with the test. */
export async function withAnn(
  t: { after(work: () => Promise<void>): void },
  options?: ExchangeOptions,
): Promise<Exchange> {
  const server = await startExchange(options);
  t.after(server.stop);
  await server.addUser(ANN, "secret");
  return server;
}

/** The envelope around the content of its body. */
export function envelopeOf(content: string, header = ""): string {
  return `<?xml version="1.0"?><e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"
    xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types"
    xmlns="http://schemas.microsoft.com/exchange/services/2006/messages"><e:Header>
    <t:RequestServerVersion Version="Exchange2013_SP1"/>${header}</e:Header><e:Body>${content}</e:Body></e:Envelope>`;
}

/** Posts the content of a body, as Ann unless told otherwise. */
export function post(server: Exchange, content: string, more: { header?: string; authorization?: string } = {}) {
  const headers = { "content-type": "text/xml; charset=utf-8", authorization: more.authorization ?? BASIC };
  return fetch(server.url, { method: "POST", headers, body: envelopeOf(content, more.header) });
}

/** The first response message. */
export async function ask(server: Exchange, content: string): Promise<Xml> {
  const answer = readXml(await (await post(server, content)).text());
  const message = at(answer, "Body")?.children[0]?.children[0]?.children[0];
  if (!message) throw new Error("There is no response message");
  return message;
}
