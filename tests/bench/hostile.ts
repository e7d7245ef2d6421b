/**
 * What others wait, and how much memory the service takes, beside mail servers that send without end: each of them alone with six mailboxes,
 * then all of them together. The quiet figures come from the same run. Servers and endpoint are part of this process.
 */
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { PASSWORD } from "../bodies.ts";
import { answerImap, answerPop3, type Script, type ScriptedServer, startScripted } from "../servers/scripted.ts";
import { embedded, type World, worldOf } from "../stories/strangers.ts";
import { OTHERS, othersMail } from "./isolation.ts";
import { quantile } from "./measured.ts";
import { type Row, type Setup, shown } from "./report.ts";
import { command } from "./rivals.ts";

const MAILBOXES = 6;
const MEMORY_EVERY_MS = 100;
const CLOSED_PORT = 1;
const LOADED_MS = 4_000;

type Hostile = { what: string; receive: (port: number) => object; script: Script };

const imap = (port: number) => ({ protocol: "imap", host: "127.0.0.1", port, tls: "none", since: "2001-01-01" });
const pop3 = (port: number) => ({ ...imap(port), protocol: "pop3", poll: { everySeconds: 10 } });
const ews = (port: number) => ({ protocol: "ews", url: `http://127.0.0.1:${port}/EWS/Exchange.asmx`, scheme: "basic" });

const GREETING = "* OK [CAPABILITY IMAP4rev1 IDLE] hi\r\n";
/** Floods at the command, and answers everything else. */
const imapFlood = (at: RegExp, first: string, piece: string): Script => ({
  greeting: GREETING,
  answer(spoken) {
    if (!at.test(spoken.line)) return answerImap(spoken, "IMAP4rev1 IDLE");
    spoken.say(first);
    spoken.flood(piece);
  },
});
const ROW = '* 1 FETCH (UID 1 FLAGS () RFC822.SIZE 100 INTERNALDATE "01-Jan-2030 00:00:00 +0000")\r\n';
const FOLDER = "<t:Folder><t:FolderId Id='abc'/><t:DisplayName>x</t:DisplayName></t:Folder>".repeat(800);

const HOSTILE: Hostile[] = [
  {
    what: "IMAP: EXISTS without end while idling",
    receive: imap,
    script: imapFlood(/ IDLE$/i, "+ idling\r\n", "* 2 EXISTS\r\n* 3 EXISTS\r\n"),
  },
  {
    what: "IMAP: a literal of 250 MB after LOGIN",
    receive: imap,
    script: imapFlood(/ (LOGIN|AUTHENTICATE) /i, "* OK {262000000}\r\n", "x".repeat(1000)),
  },
  { what: "IMAP: rows without end", receive: imap, script: imapFlood(/ (SELECT|EXAMINE) /i, "* 9 EXISTS\r\n", ROW) },
  {
    what: "IMAP: 30 MB of search results",
    receive: imap,
    script: imapFlood(/ SEARCH /i, "* SEARCH", " 1 22 333 4444 55555"),
  },
  {
    what: "POP3: unique ids without end",
    receive: pop3,
    script: {
      greeting: "+OK hi\r\n",
      answer(spoken) {
        if (!spoken.line.startsWith("UIDL")) return answerPop3(spoken);
        spoken.say("+OK\r\n");
        spoken.flood("1 0123456789abcdef0123456789abcdef\r\n");
      },
    },
  },
  {
    what: "Exchange: elements without end",
    receive: ews,
    script: {
      greeting: "",
      answer(spoken) {
        if (spoken.line !== "") return;
        const head = "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nTransfer-Encoding: chunked\r\n\r\n";
        const begin =
          "<s:Envelope xmlns:s='s'><s:Body><m:R><m:FindFolderResponseMessage><m:ResponseCode>NoError</m:ResponseCode>";
        spoken.say(`${head}${begin.length.toString(16)}\r\n${begin}\r\n`);
        spoken.flood(`${FOLDER.length.toString(16)}\r\n${FOLDER}\r\n`);
      },
    },
  },
];

export async function hostile({ sizes, runtime }: Setup): Promise<Row[]> {
  const rows: Row[] = [];
  for (const all of [...HOSTILE.map((one) => [one]), HOSTILE]) {
    const what = all.length === 1 ? (all[0]?.what ?? "") : "all six together";
    console.log(`  ${what} ...`);
    rows.push(...(await beside(what, all, sizes.mails, command(runtime))));
  }
  return rows;
}

async function beside(what: string, all: Hostile[], mails: number, program: string[]): Promise<Row[]> {
  const world = await worldOf(embedded(program), { COMMAND_TIMEOUT_SECONDS: "10", BACKOFF_SCALE: "0.1" });
  const servers: ScriptedServer[] = [];
  try {
    const measure = await othersMail(world);
    // The first ones pay for compiling the code, and the first Exchange mailbox for loading its library.
    await register(world, ews(CLOSED_PORT), "absent");
    await sleep(LOADED_MS);
    await measure(OTHERS);
    const quiet = await watched(world, () => measure(mails));
    for (const one of all) servers.push(await attack(world, one, MAILBOXES / Math.min(MAILBOXES, all.length)));
    const disturbed = await watched(world, () => measure(mails));
    const latency = [0.5, 0.99].map((share) => {
      const [a, b] = [quantile(disturbed.times, share), quantile(quiet.times, share)];
      return row(`${what}: others' mail, p${share * 100}`, a, b, "ms");
    });
    return [...latency, row(`${what}: most memory`, disturbed.mostMb, quiet.mostMb, "MB")];
  } finally {
    await world.end();
    for (const server of servers) await server.stop();
  }
}

function row(what: string, a: number, b: number, unit: string): Row {
  return { what, ours: shown(a, unit), bare: shown(b, unit), compared: `x ${(a / b).toFixed(2)}` };
}

async function attack(world: World, { receive, script }: Hostile, mailboxes: number): Promise<ScriptedServer> {
  const server = await startScripted(script);
  for (let n = 0; n < mailboxes; n++) await register(world, receive(server.port), `${server.port}-${n}`);
  return server;
}

async function register({ api }: World, place: object, name: string): Promise<void> {
  const address = `${name}@example.com`;
  const receive = { ...place, auth: { user: address, password: PASSWORD } };
  const answer = await api.call("POST", "/api/v1/mailboxes", {
    address,
    receive,
    deliver: { url: "http://127.0.0.1:1/" },
  });
  if (answer.status >= 300) throw new Error(JSON.stringify(answer.body));
}

/** The times, and the most resident memory of the service meanwhile. */
async function watched({ api }: World, measure: () => Promise<number[]>) {
  const over = new AbortController();
  let mostMb = 0;
  const watching = (async () => {
    while (!over.signal.aborted) {
      const status = await readFile(`/proc/${api.pid}/status`, "utf8");
      mostMb = Math.max(mostMb, Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) / 1024);
      await sleep(MEMORY_EVERY_MS);
    }
  })();
  const times = await measure().finally(() => over.abort());
  await watching;
  return { times, mostMb };
}
