/** The demo's endpoint: verifies each webhook, prints it with its latency, and shows the last ones on a page. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { Webhook } from "standardwebhooks";
import type { MessageReceived } from "../../shared/contract/received.ts";

/** `openUrl` takes webhooks of any mailbox: their secrets are not known here, so it verifies none. */
export type Inbox = { url: string; openUrl: string; close(): Promise<void> };
type Deps = { arrivedAfter: (messageId: string) => number | undefined; sendOne: () => Promise<void> };
type Shown = { at: Date; ms: number | undefined; data: MessageReceived["data"] };

const SHOWN = 50;
const OPEN_PATH = "/any-mailbox";

export async function startInbox(secret: string, deps: Deps): Promise<Inbox> {
  const verifier = new Webhook(secret);
  const got: Shown[] = [];

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.method === "GET") {
      response.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end(page(got));
      return;
    }
    const body = await bodyOf(request);
    if (request.url === "/send") {
      await deps.sendOne();
      response.writeHead(303, { location: "/" }).end();
      return;
    }
    const isOpen = request.url === OPEN_PATH;
    const headers = Object.fromEntries(Object.entries(request.headers).map(([k, v]) => [k, String(v)]));
    const { data } = (isOpen ? JSON.parse(body) : verifier.verify(body, headers)) as MessageReceived;
    const ms = deps.arrivedAfter(data.messageId ?? "");
    got.unshift({ at: new Date(), ms, data });
    got.length = Math.min(got.length, SHOWN);
    const after = ms === undefined ? "" : `${ms.toFixed(0)} ms after it reached the mail server`;
    console.log(
      `delivered  ${data.from?.name ?? "?"}: ${data.subject}  (${data.deliveryId}, signature ${isOpen ? "not checked" : "verified"}) ${after}`,
    );
    response.writeHead(204).end();
  }

  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => response.writeHead(400).end(String(error)));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address ? address.port : 0;
  return {
    url: `http://127.0.0.1:${port}/`,
    openUrl: `http://127.0.0.1:${port}${OPEN_PATH}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString("utf8");
}

const escaped = (text: string) => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

function page(got: Shown[]): string {
  const rows = got.map(({ at, ms, data }) => {
    const cells = [
      at.toLocaleTimeString(),
      data.from?.name ?? "",
      data.subject,
      data.text ?? "",
      ms === undefined ? "" : `${ms.toFixed(0)} ms`,
    ];
    return `<tr>${cells.map((cell) => `<td>${escaped(cell)}</td>`).join("")}</tr>`;
  });
  return `<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="5"><title>What the endpoint got</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:3rem auto;padding:0 1rem;color:#1c2733}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.5rem;border-bottom:1px solid #dde3ea}button{font:inherit;padding:.4rem 1rem}</style>
<h1>What the endpoint got</h1><p>Each row is one signed webhook. Those of the demo's mailbox are verified. The last column is the time since the mail server took the message.</p>
<form method="post" action="/send"><button>Send another mail</button></form>
<table><tr><th>Time<th>From<th>Subject<th>Text<th>After</tr>${rows.join("")}</table>`;
}
