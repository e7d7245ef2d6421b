/**
 * The reference: what imapflow alone can do. One connection per user, IDLE at once, whatever is new is fetched in one go and
 * posted raw. No store, no retries, no parsing. Reads lines of JSON orders, answers each with a line when it is done.
 */
import { Agent, request } from "node:http";
import { createInterface } from "node:readline";
import { ImapFlow } from "imapflow";

/** One order to a bare loop. `ca` asks for TLS. */
export type Order = { users: string[]; password: string; port: number; ca: string | null; url: string };

const OPENED_AT_ONCE = 10;
/** As many as the service allows one endpoint by default. */
const POSTS_AT_ONCE = 16;

const agent = new Agent({ keepAlive: true, maxSockets: POSTS_AT_ONCE });

function post(url: string, body: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "message/rfc822", "content-length": body.length };
    const sent = request(url, { method: "POST", agent, headers }, (response) => response.resume().once("end", resolve));
    sent.once("error", reject).end(body);
  });
}

async function open(order: Order, user: string): Promise<void> {
  const client = new ImapFlow({
    host: "127.0.0.1",
    port: order.port,
    secure: order.ca !== null,
    ...(order.ca === null ? { doSTARTTLS: false } : { servername: "localhost", tls: { ca: order.ca } }),
    auth: { user, pass: order.password },
    logger: false,
    disableAutoIdle: true,
  });
  await client.connect();
  const { uidNext } = await client.mailboxOpen("INBOX");
  void listen(client, order.url, uidNext);
}

async function listen(client: ImapFlow, url: string, first: number): Promise<void> {
  let next = first;
  let news = Promise.withResolvers<void>();
  client.on("exists", () => news.resolve());
  for (;;) {
    void client.idle();
    await news.promise;
    news = Promise.withResolvers<void>();
    for await (const { uid, source } of client.fetch(`${next}:*`, { uid: true, source: true }, { uid: true })) {
      if (uid < next || !source) continue;
      next = uid + 1;
      void post(url, source);
    }
  }
}

const lines = createInterface({ input: process.stdin });
for await (const line of lines) {
  const order = JSON.parse(line) as Order;
  const queue = [...order.users];
  const opener = async () => {
    for (let user = queue.shift(); user !== undefined; user = queue.shift()) await open(order, user);
  };
  await Promise.all(Array.from({ length: OPENED_AT_ONCE }, opener));
  process.stdout.write("done\n");
}
process.exit();
