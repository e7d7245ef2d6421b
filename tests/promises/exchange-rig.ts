/** What tests of an Exchange session need: mailboxes on a server, sessions, and a web server with given answers. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { MailboxOf } from "../../shared/contract/mailbox.ts";
import { egress } from "../../shared/egress.ts";
import { ewsAccounts } from "../../shared/mail/ews/account.ts";
import { processLocks } from "../../shared/concurrency/locks.ts";
import type { EwsDeps, EwsSession } from "../../shared/mail/ews/client/session.ts";
import { type LoginGate, loginGate } from "../../shared/mail/net/login-gate.ts";
import { memoryRefusedLogins } from "../../shared/store/memory/refused-logins.ts";
import type { KeyPair } from "../servers/certificates.ts";
import { listenOn } from "../servers/ports.ts";
import { ewsMailbox } from "./mailbox-rig.ts";

export type EwsWish = Partial<MailboxOf<"ews">["receive"]>;

/** A mailbox of this address, served at `url` unless the wish says otherwise. */
export function exchangeMailbox(address: string, url: string | undefined, wish: EwsWish = {}): MailboxOf<"ews"> {
  return ewsMailbox(address, { ...(url !== undefined && { url }), ...wish });
}

export function exchangeDeps(wish: Partial<EwsDeps> = {}): EwsDeps {
  const shared = { exchange: ewsAccounts(), logins: localLogins() };
  return { egress: egress("allow"), timeouts: { command: 10_000 }, ...shared, ...wish };
}

/** The gate of a node that is alone. `waitMs` is the wait after a refused login. */
export function localLogins(waitMs = 60_000): LoginGate {
  return loginGate({
    locks: processLocks(),
    refusedLogins: memoryRefusedLogins(),
    backoff: { login: () => waitMs },
  });
}

/** The display name of the inbox: one small request to a server. */
export async function inboxName(session: EwsSession, signal: AbortSignal): Promise<string> {
  const { library } = session;
  const inbox = await session.callLibrary(
    "GetFolder",
    (by) => library.Folder.Bind(by, session.folder("inbox")),
    signal,
  );
  return inbox.DisplayName;
}

/** What a GetFolder of the inbox is answered. */
export const INBOX_ANSWER = [
  '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/">',
  '<s:Body xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages"',
  ' xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types"><m:GetFolderResponse><m:ResponseMessages>',
  '<m:GetFolderResponseMessage ResponseClass="Success"><m:ResponseCode>NoError</m:ResponseCode><m:Folders><t:Folder>',
  '<t:FolderId Id="AAA" ChangeKey="B"/><t:DisplayName>Inbox</t:DisplayName></t:Folder></m:Folders>',
  "</m:GetFolderResponseMessage></m:ResponseMessages></m:GetFolderResponse></s:Body></s:Envelope>",
].join("");

export type Visit = { method: string; host: string; path: string; authorization: string; body: string };
export type WebServer = {
  port: number;
  url: string;
  visits: Visit[];
  server: Server;
  stop(): Promise<void>;
};

/** A web server that says what the test wants. Without certificates it speaks in clear. */
export async function webServer(
  answer: (visit: Visit, response: ServerResponse, request: IncomingMessage) => void,
  certificate?: KeyPair,
): Promise<WebServer> {
  const visits: Visit[] = [];
  const hear = (request: IncomingMessage, response: ServerResponse) => {
    const parts: Buffer[] = [];
    request.on("data", (chunk: Buffer) => parts.push(chunk));
    request.on("end", () => {
      const { authorization = "", host = "" } = request.headers;
      const body = Buffer.concat(parts).toString("utf8");
      const visit = { method: request.method ?? "", host, path: request.url ?? "", authorization, body };
      visits.push(visit);
      answer(visit, response, request);
    });
  };
  const server = certificate ? createTlsServer(certificate, hear) : createServer(hear);
  const port = await listenOn(server, 0);
  const stop = () => {
    server.closeAllConnections();
    return new Promise<void>((resolve) => void server.close(() => resolve()));
  };
  return { port, url: `${certificate ? "https" : "http"}://127.0.0.1:${port}/EWS/Exchange.asmx`, visits, server, stop };
}
