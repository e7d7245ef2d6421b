/** The command line against a running service, as a person or a script uses it. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { imapBody, PASSWORD, toEndpoint } from "./bodies.ts";
import { type Endpoint, startEndpoint } from "./servers/endpoint.ts";
import { startImapServer } from "./servers/imap/server.ts";
import { message } from "./servers/mail.ts";
import type { MailServer } from "./servers/mail-server.ts";
import { type Service, startService, TOKEN } from "./service.ts";

const COMMAND = fileURLToPath(new URL("../api/cli/cli.ts", import.meta.url));
const RUNTIME = "deno" in process.versions ? ["run", "-A", "--no-check"] : [];
const WAIT_MS = 60_000;

type Ended = { code: number; out: string; err: string };

let service: Service;
let mail: MailServer;
let endpoint: Endpoint;

function environment(more: Record<string, string> = {}) {
  return { ...process.env, EMAIL_LISTENER_URL: service.url, EMAIL_LISTENER_TOKEN: TOKEN, ...more };
}

/** Runs a command; `input` is its standard input. */
function cli(args: string[], { input = "", env = {} }: { input?: string; env?: Record<string, string> } = {}) {
  return new Promise<Ended>((resolve) => {
    const options = { env: environment(env), timeout: WAIT_MS };
    const child = execFile(process.execPath, [...RUNTIME, COMMAND, ...args], options, (error, out, err) =>
      resolve({ code: typeof error?.code === "number" ? error.code : error ? -1 : 0, out: out.trim(), err }),
    );
    child.stdin?.end(input);
  });
}

const anna = (password = PASSWORD) => {
  const receive = { auth: { user: "anna", password } };
  return JSON.stringify(imapBody(mail, "anna", { id: "anna", receive, deliver: toEndpoint(endpoint) }));
};

const line = (id: string, address = `${id}@example.com`) => JSON.stringify(imapBody(mail, id, { id, address }));

/** Waits until the mailbox listens: mail that came before is not new. */
async function untilListening(): Promise<void> {
  await service.until("listening", async () =>
    / anna@example\.com  listening /.test((await cli(["mailbox", "ls"])).out),
  );
}

describe("the command line", () => {
  before(async () => {
    [service, mail, endpoint] = await Promise.all([
      startService({ RETRY_HOURS: "0.001" }),
      startImapServer(),
      startEndpoint(),
    ]);
    await mail.addUser("anna", PASSWORD);
  });

  after(async () => {
    await Promise.all([service.end(), mail.stop(), endpoint.stop()]);
  });

  test("doctor says what is well, what is not and what to do, by its exit code too", async () => {
    const well = await cli(["doctor"]);
    assert.equal(well.code, 0, well.out + well.err);
    assert.match(
      well.out,
      /^ok +sqlite +.*\n(.*\n)*not run +address +PUBLIC_URL.*\n(.*\n)*All that was checked is well\.$/m,
    );
    const wrong = await cli(["doctor", "--check", "address,sqlite", "--address", "http://127.0.0.1:1"]);
    assert.equal(wrong.code, 1);
    assert.match(wrong.out, /^ok +sqlite(.*\n)*FAILED +address +.*127\.0\.0\.1.* Remedy: Check/m);
    const asJson = JSON.parse((await cli(["doctor", "--check", "settings", "--json"])).out);
    assert.equal(asJson.checks[0].status, "ok");
    assert.match((await cli(["doctor", "--check", "nonsense"])).err, /checks/);
  });

  test("a mailbox is tried, registered, shown, paused, resumed, read again and removed", async () => {
    const wrong = await cli(["mailbox", "test", "-"], { input: anna("wrong") });
    assert.equal(wrong.code, 1, wrong.err);
    assert.match(wrong.out, /^FAILED +login .*\n(.*\n)*login: \S/m);
    const right = await cli(["mailbox", "test", "-"], { input: anna() });
    assert.equal(right.code, 0, right.out);
    assert.match(right.out, /^ok +folders/m);

    const added = await cli(["mailbox", "add", "-"], { input: anna() });
    assert.match(added.out, /^anna is registered/, added.err);
    await untilListening();
    const stored = await cli(["mailbox", "test", "anna"]);
    assert.equal(stored.code, 0, stored.out + stored.err);
    assert.match(stored.out, /^ok +mailbox +anna@example\.com.*\n(.*\n)* +ok +login +\d+ ms/m);
    await mail.append("anna", "INBOX", message({ subject: "one" }));
    await endpoint.waitFor(1);
    const shown = await service.until("its facts", async () => {
      const ended = await cli(["mailbox", "show", "anna"]);
      return /mail\.arrived +folder=INBOX count=1/.test(ended.out) && ended;
    });
    assert.match(shown.out, /^status +listening since 20/m);
    assert.ok(!shown.out.includes(PASSWORD));

    assert.equal((await cli(["mailbox", "pause", "anna"])).out, "anna is paused");
    const paused = JSON.parse((await cli(["mailbox", "ls", "--status", "paused", "--json"])).out);
    assert.deepEqual(
      paused.items.map(({ id }: { id: string }) => id),
      ["anna"],
    );
    assert.equal((await cli(["mailbox", "resume", "anna"])).out, "anna listens again");
    assert.equal(
      (await cli(["mailbox", "resync", "anna", "--since", "2001-01-01"])).out,
      "1 messages are in the queue",
    );
    assert.match((await cli(["mailbox", "folders", "anna"])).out, /^INBOX/m);
    assert.equal((await cli(["mailbox", "rm", "anna"])).out, "anna is removed");
    assert.equal((await cli(["mailbox", "ls"])).out, "There are none.");
  });

  test("what was given up is listed with its reason and replayed", async () => {
    endpoint.clear();
    endpoint.answer(() => ({ status: 500 }));
    await cli(["mailbox", "add", "-"], { input: anna() });
    await untilListening();
    await mail.append("anna", "INBOX", message({ subject: "two" }));
    const row = await service.until("parked", async () => {
      const found = /^(msg_\S+) +anna +message +1 .*500.*$/m.exec((await cli(["parked", "ls"])).out);
      return found ?? undefined;
    });
    const id = row[1] ?? "";
    assert.match((await cli(["deliveries", "show", id])).out, /^state +parked$(.*\n)+ATTEMPT AT.*\n20.* 500 /m);
    assert.match((await cli(["deliveries", "ls", "--state", "parked"])).out, new RegExp(`^${id}  anna`, "m"));
    endpoint.answer(() => ({}));
    assert.equal((await cli(["parked", "replay", id])).out, "1 are in the queue");
    await endpoint.waitFor(1);
    assert.equal((await cli(["deliveries", "replay", id])).out, `${id} is in the queue`);
    await service.until("delivered again", () => endpoint.repeats.length === 1);
    const unknown = await cli(["parked", "drop", "nothing"]);
    assert.equal(unknown.out, "0 are deleted", unknown.err);
  });

  test("facts are printed as they happen until the program is interrupted", async () => {
    const child = spawn(process.execPath, [...RUNTIME, COMMAND, "tail", "--json", "--kind", "mailbox.changed"], {
      env: environment(),
      stdio: ["ignore", "pipe", "inherit"],
    });
    const ended = once(child, "exit");
    try {
      const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
      const first = lines.next();
      let seen = false;
      void first.then(() => (seen = true));
      await service.until("the fact", async () => {
        await cli(["mailbox", "pause", "anna"]);
        await cli(["mailbox", "resume", "anna"]);
        return seen;
      });
      const { kind, mailbox } = JSON.parse(String((await first).value));
      assert.deepEqual([kind, mailbox], ["mailbox.changed", "anna"]);
    } finally {
      child.kill("SIGINT");
    }
    assert.equal((await ended)[0], 0);
  });

  test("a token is made, works, is listed and revoked", async () => {
    const made = await cli(["token", "add", "--name", "CRM of Acme", "--scopes", "read, send", "--prefix", "acme-"]);
    assert.match(made.out, /^elt_[0-9a-f]{16}_\S{43}$/, made.err);
    const own = { env: { EMAIL_LISTENER_TOKEN: made.out } };
    assert.equal((await cli(["mailbox", "ls"], own)).out, "There are none.");
    assert.match((await cli(["mailbox", "show", "anna"], own)).err, /no mailbox/);
    const id = made.out.slice(4, 20);
    assert.match(
      (await cli(["token", "ls"])).out,
      new RegExp(`^${id}  CRM of Acme  read,send  acme-\\*     never    20`, "m"),
    );
    assert.equal((await cli(["token", "rm", id])).out, `${id} is revoked`);
    assert.match((await cli(["mailbox", "ls"], own)).err, /token/);
    assert.match((await cli(["token", "ls"])).out, /There are no tokens/);
    assert.ok(!service.output.includes(made.out));
  });

  test("a stream that the service ends is a failure with its remedy", async () => {
    const token = (await cli(["token", "add", "--name", "short", "--scopes", "read"])).out;
    const ended = cli(["tail"], { env: { EMAIL_LISTENER_TOKEN: token } });
    await service.until("its use", async () => /short .* 20\S+$/m.test((await cli(["token", "ls"])).out));
    await cli(["token", "rm", token.slice(4, 20)]);
    const { code, err } = await ended;
    assert.equal(code, 1, err);
    assert.match(err, /The service ended the stream\n.*the token was revoked/);
  });

  test("an application is registered, changed, listed and removed", async () => {
    const contoso = { id: "contoso", provider: "microsoft", tenant: "contoso.com", clientId: "c1", clientSecret: "s1" };
    const input = JSON.stringify(contoso);
    assert.equal((await cli(["application", "add", "-"], { input })).out, "contoso is registered");
    const changed = { input: JSON.stringify({ ...contoso, clientSecret: "s2" }) };
    assert.equal((await cli(["application", "set", "contoso", "-"], changed)).out, "contoso is changed");
    const listed = await cli(["application", "ls"]);
    assert.match(listed.out, /^contoso  microsoft  contoso\.com  c1      global/m, listed.err);
    assert.equal((await cli(["application", "rm", "contoso"])).out, "contoso is removed");
    assert.equal((await cli(["application", "ls"])).out, "There are none.");
  });

  test("discover finds the servers of an address, and fails where there are none", async () => {
    const known = await cli(["mailbox", "discover", "anna@gmail.com"]);
    assert.equal(known.code, 0, known.err);
    assert.match(known.out, /found +known(.*\n)+receive +\{"protocol":"imap","host":"imap\.gmail\.com"/);
    const unknown = await cli(["mailbox", "discover", "anna@nobody.invalid", "--json"]);
    assert.equal(unknown.code, 1, unknown.err);
    assert.deepEqual(JSON.parse(unknown.out).proposals, []);
  });

  test("a file of mailboxes is imported, again without a change, and says which lines are refused", async () => {
    const input = [line("many-1"), line("many-2"), line("many-3", "nobody")].join("\n");
    const first = await cli(["mailbox", "import", "-"], { input });
    assert.equal(first.code, 1, first.err);
    assert.match(first.out, /^2 created, 0 updated, 0 unchanged, 1 refused\n  line 3 many-3: Not valid: address /);
    const again = await cli(["mailbox", "import", "-", "--json"], {
      input: [line("many-1"), line("many-2")].join("\n"),
    });
    assert.equal(again.code, 0, again.err);
    assert.deepEqual(
      JSON.parse(again.out).map((one: { result: string }) => one.result),
      ["unchanged", "unchanged"],
    );
    for (const id of ["many-1", "many-2"]) assert.equal((await cli(["mailbox", "rm", id])).code, 0);
  });

  test("mistakes are named, with an exit code that tells a wrong command from a refusal", async () => {
    const mistakes: [args: string[], code: number, says: RegExp, env?: Record<string, string>][] = [
      [["mailbox", "lss"], 2, /There is no command mailbox lss\.(.*\n)+ +mailbox ls /],
      [["mailbox", "show"], 2, /Usage: bun run cli mailbox show <id>/],
      [["mailbox", "ls", "--nonsense"], 2, /nonsense/],
      [["mailbox", "show", "nobody"], 1, /There is no mailbox/],
      [["mailbox", "add", "/no/such/file"], 1, /\/no\/such\/file cannot be read/],
      [["mailbox", "add", "-"], 1, /- is not JSON/],
      [["mailbox", "resync", "anna"], 1, /since/],
      [["send", "anna", "--to", "x@example.com", "--subject", "a", "--text", "b"], 1, /send/],
      [["token", "rm", "0123456789abcdef"], 1, /There is no token/],
      [["token", "add", "--name", "x", "--scopes", "write"], 1, /scopes/],
      [
        ["token", "add", "--name", "x", "--scopes", "read", "--expires", "soon"],
        1,
        /--expires is soon, which is no date/,
      ],
      [["mailbox", "ls"], 1, /bearer token is not one/, { EMAIL_LISTENER_TOKEN: "wrong-0123456789" }],
      [["mailbox", "ls", "--url", "http://127.0.0.1:1"], 1, /127\.0\.0\.1:1 does not answer/],
    ];
    for (const [args, code, says, env = {}] of mistakes) {
      const ended = await cli(args, { env });
      assert.equal(ended.code, code, `${args.join(" ")}: ${ended.err}`);
      assert.match(ended.err, says);
    }
    assert.match((await cli(["--help"])).out, /mailbox ls(.*\n)+ +tail /);
    assert.match((await cli(["mailbox", "add", "--help"])).out, /Example: bun run cli mailbox add/);
  });
});
