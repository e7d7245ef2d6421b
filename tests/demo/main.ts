/** The demo: the service on its embedded default, with a mail server in this process, mail arriving in it, and an endpoint that shows what it got. */
import process from "node:process";
import { apiNode } from "../../api/main.ts";
import { readConfig } from "../../shared/config.ts";
import { asProblem } from "../../shared/contract/problem.ts";
import { slept } from "../../shared/time.ts";
import { untilStopped } from "../../shared/run.ts";
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

async function demo(): Promise<void> {
  // The demo tells what happens itself; LOG_LEVEL=info shows how the service tells it.
  const config = readConfig({ LOG_LEVEL: "warn", ...process.env });
  const stop = untilStopped((name) => console.log(`\n${name}: stopping`));
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
  const running = apiNode(config, stop);
  // A node that cannot start says so through `running`; this promise only keeps that from going unheard meanwhile.
  running.catch(() => undefined);
  try {
    const url = `http://127.0.0.1:${config.PORT}${config.BASE_PATH}`;
    await Promise.race([
      running,
      register(url, { mailPort: mail.imapPort, inbox, token: config.API_TOKENS[0]?.reveal() }),
    ]);
    console.log(`\nMail for ${USER} arrives every ${MAIL_EVERY_MS / 1000} seconds; each delivery is printed below.`);
    console.log(`  see what the endpoint got, and send more:  ${inbox.url}`);
    console.log(`  the service:                               ${url}/   reference: ${url}/docs\n`);
    do await send(sent++);
    while (await slept(MAIL_EVERY_MS, stop));
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

/** Puts the demo's mailbox as any client would, and waits until it is listened to. */
async function register(
  url: string,
  { mailPort, inbox, token }: { mailPort: number; inbox: Inbox; token: string | undefined },
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
  const put = { method: "PUT", headers, body: JSON.stringify(body) };
  const until = performance.now() + 15_000;
  let registered = false;
  while (performance.now() < until) {
    const answer: Response | undefined = await fetch(
      `${url}/api/v1/mailboxes/demo`,
      registered ? { headers } : put,
    ).catch(() => undefined);
    if (answer && !answer.ok) throw new Error(`The demo mailbox was not registered: ${await answer.text()}`);
    const known = answer && ((await answer.json()) as { state: { status: string } });
    if (registered && known?.state.status === "listening") return;
    registered ||= answer !== undefined;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`The demo mailbox is not listened to; ask ${url}/api/v1/mailboxes/demo why`);
}

await demo().catch((error: unknown) => {
  console.error(`The demo cannot run: ${asProblem(error).message}`);
  process.exit(1);
});
