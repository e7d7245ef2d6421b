/**
 * The demo of `compose.yaml`: registers the mailbox of the mail server beside it, sends it mail, and is the endpoint. Answers GET
 * with 200 once a mail came through with a good signature, and with 503 until then.
 */
import { createServer, type IncomingMessage } from "node:http";
import process from "node:process";
import { setTimeout as slept } from "node:timers/promises";
import { createTransport } from "nodemailer";
import { Webhook } from "standardwebhooks";

const { API = "", API_TOKEN = "", MAIL_HOST = "greenmail", ENDPOINT = "http://demo:8080/" } = process.env;
const ADDRESS = "demo@example.com";
const PASSWORD = "demo";
const SECRET = `whsec_${Buffer.from("the demo's endpoint and mailbox 1").toString("base64")}`;
const MAIL_EVERY_MS = Number(process.env["MAIL_EVERY_SECONDS"] ?? 10) * 1000;
const REGISTER_MS = 60_000;

async function textOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks).toString("utf8");
}

function listen(port: number): void {
  const verifier = new Webhook(SECRET);
  let delivered = 0;
  const taken = async (request: IncomingMessage): Promise<number> => {
    if (request.method === "GET") return delivered > 0 ? 200 : 503;
    const headers = Object.entries(request.headers).map(([name, value]) => [name, String(value)]);
    verifier.verify(await textOf(request), Object.fromEntries(headers));
    delivered += 1;
    console.log(`delivered ${String(request.headers["webhook-id"])}, signature verified`);
    return 204;
  };
  const server = createServer((request, response) => {
    taken(request).then(
      (status) => response.writeHead(status).end(),
      (error: unknown) => response.writeHead(400).end(String(error)),
    );
  });
  server.listen(port);
}

/** Puts the mailbox as any client would, and tries for a minute. */
async function register(): Promise<void> {
  const auth = { user: ADDRESS, password: PASSWORD };
  const body = {
    address: ADDRESS,
    name: "Demo",
    receive: { protocol: "imap", host: MAIL_HOST, port: 3143, tls: "none", auth },
    deliver: { url: ENDPOINT, secret: SECRET },
  };
  const headers = { "content-type": "application/json", authorization: `Bearer ${API_TOKEN}` };
  const until = performance.now() + REGISTER_MS;
  for (;;) {
    const signal = AbortSignal.timeout(5_000);
    const put = { method: "PUT", headers, body: JSON.stringify(body), signal };
    const answer = await fetch(`${API}/api/v1/mailboxes/demo`, put).catch(() => undefined);
    if (answer?.ok) return;
    const why = answer ? await answer.text() : "no answer";
    if (performance.now() > until) throw new Error(`The mailbox was not registered: ${why}`);
    await slept(1_000);
  }
}

async function demo(): Promise<void> {
  for (const name of ["SIGTERM", "SIGINT"]) process.on(name, () => process.exit(0));
  listen(8080);
  await register();
  const smtp = createTransport({ host: MAIL_HOST, port: 3025, secure: false, ignoreTLS: true });
  for (let n = 1; ; n++) {
    const text = "It can do whatever we know how to order it to perform.";
    await smtp.sendMail({ from: "Ada Lovelace <ada@example.org>", to: ADDRESS, subject: `Note ${n}`, text });
    console.log(`sent ${n}`);
    await slept(MAIL_EVERY_MS);
  }
}

await demo();
