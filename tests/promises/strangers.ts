/**
 * Nobody waits behind a stranger: what a service promises whoever has nothing to do with an endpoint, a mail server, a relay or a CRM
 * that hangs. Each story counts that everybody else's mail has arrived while the hung one still hangs.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Endpoint, startEndpoint } from "../servers/endpoint.ts";
import { type ImapServer, startImapServer } from "../servers/imap/server.ts";
import { startSmtpScript } from "../servers/smtp-script.ts";
import { eventually } from "../servers/waiting.ts";
import { crmOf, fill, type StartNodes, through, type World, worldOf } from "../stories/strangers.ts";

/** Undefined where a server is missing that the nodes need. */
export type FindNodes = () => StartNodes | undefined;

/** Others wait for their deadlines, which no story reaches: what hangs does so from the first to the last moment. */
const HANGING = { DELIVERY_TIMEOUT_SECONDS: "300", COMMAND_TIMEOUT_SECONDS: "200", BACKOFF_SCALE: "0.1" };
const ARRIVE_MS = 110_000;
const OTHERS = 20;
/** Mailboxes of who hangs. Their mails are more than the places of all tasks. */
const HUNG = 40;
const MAILS = 3;

const subjectOf = ({ json }: { json: unknown }) => (json as { data: { subject: string } }).data.subject;
/** Whether the content of a message was asked for. */
const isAsked = (mail: ImapServer) => mail.commands.some(({ line }) => /BODY\.PEEK\[\]/i.test(line));

/** Resolves once the endpoint has accepted all of these, each once. */
async function allArrive(endpoint: Endpoint, subjects: string[]): Promise<void> {
  const missing = () => {
    const there = new Set(endpoint.received.map(subjectOf));
    return subjects.filter((subject) => !there.has(subject));
  };
  await eventually(() => missing().length === 0, "everybody else's mail", ARRIVE_MS).catch(() => {
    const left = missing();
    throw new Error(`${left.length} of ${subjects.length} did not arrive: ${left.slice(0, 5).join(", ")}`);
  });
}

/** The suite: hold every composition of nodes to it. What is found starts nodes that nobody used before. */
export function strangerPromises(find: FindNodes): void {
  const story = (name: string, tell: (w: World) => Promise<void>) =>
    test(name, async (t) => {
      const start = find();
      if (!start) return t.skip("a server is missing");
      const w = await worldOf(start, HANGING);
      try {
        await tell(w);
      } finally {
        await w.end();
      }
    });

  story("400 mails for an endpoint that never answers keep no mail of 20 other mailboxes waiting", async (w) => {
    const hung = await startEndpoint({ secret: null });
    hung.answer(() => ({ hang: true }));
    try {
      const users = await w.mailboxes("hung", 80, { url: hung.url });
      const others = await w.mailboxes("other", OTHERS);
      await fill(w.mail, users, 5);
      await eventually(() => hung.requests.length > 0, "the first request to hang");
      await allArrive(w.endpoint, await fill(w.mail, others, MAILS));
      assert.equal(hung.received.length, 0);
      assert.ok(hung.open().most < 64, `${hung.open().most} requests hang at one time`);
    } finally {
      await hung.stop();
    }
  });

  story("one URL of a server that never answers keeps no mail for another URL of it waiting", async (w) => {
    w.endpoint.answer(({ path }) => (path === "/hang" ? { hang: true } : {}));
    const users = await w.mailboxes("hung", HUNG, { url: `${w.endpoint.url}hang` });
    const others = await w.mailboxes("other", OTHERS);
    await fill(w.mail, users, 10);
    await eventually(() => w.endpoint.requests.some(({ path }) => path === "/hang"), "the first request to hang");
    await allArrive(w.endpoint, await fill(w.mail, others, MAILS));
    assert.ok(w.endpoint.received.every(({ path }) => path !== "/hang"));
  });

  for (const how of ["silent", "trickle"] as const) {
    const what = how === "silent" ? "never gives it" : "gives it a byte at a time";
    story(`a mail host that lists mail and ${what} keeps no mail of other hosts waiting`, async (w) => {
      const bad = await startImapServer();
      bad.faults.withholdContent = how;
      try {
        const users = await w.mailboxes("hung", HUNG, { mail: bad });
        const others = await w.mailboxes("other", OTHERS);
        await fill(bad, users, MAILS);
        await eventually(() => isAsked(bad), "the first message to be asked for");
        await allArrive(w.endpoint, await fill(w.mail, others, MAILS));
        assert.equal(w.endpoint.received.length, OTHERS * MAILS);
      } finally {
        await bad.stop();
      }
    });
  }

  story("mail hosts that hang, one for each of 40 mailboxes, keep no mail of other hosts waiting", async (w) => {
    const bad = await Promise.all(Array.from({ length: 40 }, () => startImapServer()));
    for (const one of bad) one.faults.withholdContent = "silent";
    try {
      const users = await Promise.all(bad.map((mail, n) => w.mailboxes(`hung${n}`, 1, { mail })));
      const others = await w.mailboxes("other", OTHERS);
      for (const [n, mail] of bad.entries()) await fill(mail, users[n] ?? [], 10);
      await eventually(() => bad.some(isAsked), "the first message to be asked for");
      await allArrive(w.endpoint, await fill(w.mail, others, MAILS));
    } finally {
      await Promise.all(bad.map((mail) => mail.stop()));
    }
  });

  story("a relay that hangs keeps no mail that goes out by another one waiting, and no received mail", async (w) => {
    const [hung, good] = await Promise.all([startSmtpScript(), startSmtpScript()]);
    hung.play(({ step }) => (step === "data" ? new Promise(() => undefined) : undefined));
    try {
      const users = await w.mailboxes("hung", HUNG, { send: through(hung) });
      const others = await w.mailboxes("other", OTHERS, { send: through(good) });
      const send = async (user: string) => {
        const body = { to: ["bob@example.net"], subject: "Hello", text: "How are you?" };
        const answer = await w.api.call("POST", `/api/v1/mailboxes/${user}/messages`, body);
        assert.ok(answer.status < 300, JSON.stringify(answer.body));
      };
      await Promise.all(users.flatMap((user) => [send(user), send(user), send(user)]));
      await eventually(() => hung.moments.some(({ step }) => step === "data"), "the first message to hang");
      await Promise.all(others.map(send));
      await good.waitFor(OTHERS, ARRIVE_MS);
      await allArrive(w.endpoint, await fill(w.mail, [...users, ...others], 1));
      assert.equal(hung.taken.length, 0);
    } finally {
      await Promise.all([hung.stop(), good.stop()]);
    }
  });

  story(
    "a CRM that never answers a callback keeps no other CRM's callbacks waiting, and no mail, its own included",
    async (w) => {
      const [{ crm: hung, add: addHung }, { crm: good, add: addOthers }] = await Promise.all([
        crmOf(w, "hung", 20),
        crmOf(w, "other", 20),
      ]);
      hung.fault = (method) => (method === "ProcessMailboxState" ? { hang: true } : undefined);
      try {
        const [users, others] = [await addHung(), await addOthers()];
        await eventually(() => good.states.length >= others.length, "the other CRM to know its mailboxes", ARRIVE_MS);
        await fill(w.mail, [...users, ...others], 1);
        await eventually(() => good.saved.size === others.length, "the other CRM's mail", ARRIVE_MS);
        await eventually(() => hung.saved.size === users.length, "the hung CRM's own mail", ARRIVE_MS);
        assert.equal(hung.states.length, 0);
      } finally {
        await Promise.all([hung.stop(), good.stop()]);
      }
    },
  );
}
