/** The demo: the service on its embedded default, with a mail server in this process, mail arriving in it, and an endpoint that shows what it got. */
import process from "node:process";
import { runApiNode } from "../../api/main.ts";
import { readConfig } from "../../shared/config.ts";
import { asProblem } from "../../shared/contract/problem.ts";
import { sleep } from "../../shared/time.ts";
import { shutdownSignal } from "../../shared/run.ts";
import { startImapServer } from "../servers/imap/server.ts";
import { message } from "../servers/mail.ts";
import { type Inbox, startInbox } from "./inbox.ts";

const USER = "demo@example.com";
const PASSWORD = "only for the demo";
const SECRET = `whsec_${Buffer.from("the demo's endpoint and mailbox 1").toString("base64")}`;
const MAIL_EVERY_MS = 10_000;

const SUBJECTS = [
  ["Ada Lovelace", "ada@example.org", "Notes on the engine", "It can do whatever we know how to order it to perform."],
  ["Grace Hopper", "grace@example.org", "Found a bug", "Taped it into the log book, relay 70, panel F."],
  ["Jon Postel", "jon@example.org", "Robustness", "Be conservative in what you send, liberal in what you accept."],
] as const;

/** Whatever the environment names, the demo keeps all it has in memory: it must leave nothing in a store that somebody uses. */
const OWN_STORE = { DATA_DIR: ":memory:", REDIS_URL: "", RABBITMQ_URL: "" };

async function demo(): Promise<void> {
  // The demo tells what happens itself; LOG_LEVEL=info shows how the service tells it.
  const config = readConfig({ LOG_LEVEL: "warn", ...process.env, ...OWN_STORE });
  const stop = shutdownSignal((name) => console.log(`\n${name}: stopping`));
  const mail = await startImapServer({ tls: null, users: { [USER]: PASSWORD } });
  const appended = new Map<string, number>();
  const send = async (n: number) => {
    const [name, address, subject, text] = SUBJECTS[n % SUBJECTS.length] ?? SUBJECTS[0];
    const messageId = `<demo-${Date.now()}-${n}@example.org>`;
    appended.set(messageId, performance.now());
    await mail.append(USER, "INBOX", message({ from: `${name} <${address}>`, to: USER, subject, text, messageId }));
  };
  let sent = 0;
  const inbox = await startInbox(SECRET, { arrivedAfter: (id) => since(appended, id), sendOne: () => send(sent++) });
  const ended = new AbortController();
  const started = Promise.withResolvers<string>();
  const over = AbortSignal.any([stop, ended.signal]);
  const running = runApiNode(config, stop, { onStarted: started.resolve, demoEndpoint: inbox.openUrl }).finally(() =>
    ended.abort(),
  );
  try {
    // Another program may answer at the same port, and must not get the demo's mailbox: only the node itself says where it is.
    const url = await Promise.race([started.promise, running.then(() => undefined)]);
    if (url === undefined) return;
    await register(url, { mailPort: mail.imapPort, inbox, token: config.API_TOKENS[0]?.reveal() }, over);
    if (over.aborted) return await running;
    console.log(`\nMail for ${USER} arrives every ${MAIL_EVERY_MS / 1000} seconds; each delivery is printed below.`);
    console.log("The demo keeps nothing: whatever you register with it is gone when it stops.");
    console.log(`  see what the endpoint got, and send more:  ${inbox.url}`);
    console.log(`  the service:                               ${url}/   reference: ${url}/docs\n`);
    do await send(sent++);
    while (await sleep(MAIL_EVERY_MS, over));
    await running;
  } finally {
    await inbox.close();
    await mail.stop();
  }
}

function since(appended: Map<string, number>, messageId: string): number | undefined {
  const at = appended.get(messageId);
  appended.delete(messageId);
  return at === undefined ? undefined : performance.now() - at;
}

/** Registers the demo's mailbox as any client would, and waits until the service listens to it, or until `over`. */
async function register(
  url: string,
  { mailPort, inbox, token }: { mailPort: number; inbox: Inbox; token: string | undefined },
  over: AbortSignal,
): Promise<void> {
  const body = {
    address: USER,
    name: "Demo",
    receive: {
      protocol: "imap",
      host: "127.0.0.1",
      port: mailPort,
      tls: "none",
      auth: { user: USER, password: PASSWORD },
    },
    deliver: { url: inbox.url, secret: SECRET },
  };
  const headers = { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) };
  const mailbox = `${url}/api/v1/mailboxes/demo`;
  const signal = AbortSignal.any([over, AbortSignal.timeout(15_000)]);
  try {
    let answer = await fetch(mailbox, { method: "PUT", headers, body: JSON.stringify(body), signal });
    while (answer.ok) {
      const { state } = (await answer.json()) as { state: { status: string } };
      if (state.status === "listening") return;
      await sleep(50, signal);
      answer = await fetch(mailbox, { headers, signal });
    }
    throw new Error(`The demo mailbox was not registered: ${await answer.text()}`);
  } catch (error) {
    if (over.aborted) return;
    if (!signal.aborted) throw error;
    throw new Error(`The demo mailbox is not listened to; ask ${mailbox} why`, { cause: error });
  }
}

await demo().catch((error: unknown) => {
  console.error(`The demo cannot run: ${asProblem(error).message}`);
  process.exit(1);
});
