/** Silence is not a fact: what a mail server leaves out, shows late, renumbers or refuses loses nothing, deletes nothing and repeats nothing. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { imapBody, register, toEndpoint } from "./bodies.ts";
import { randomFrom } from "./chaos/random.ts";
import { createLiar, type Liar, type Traits } from "./lies/imap-liar.ts";
import { type LiarMailbox, type LiarServer, startLiarServer, type StoredFolder } from "./lies/imap-server.ts";
import { type Endpoint, startEndpoint } from "./servers/endpoint.ts";
import { type Service, startService } from "./service.ts";
import { subjects } from "./stories/scene.ts";

const TRUE: Traits = {
  idle: true,
  locked: undefined,
  uidValidity: true,
  uidNext: "told",
  sizes: "true",
  dates: "true",
};
const DAY = 86_400_000;

describe("A mailbox on a server that is not to be believed", () => {
  let service: Service;
  let server: LiarServer;
  const endpoints: Endpoint[] = [];
  before(async () => {
    server = await startLiarServer();
    service = await startService({
      BACKOFF_SCALE: "0.002",
      COMMAND_TIMEOUT_SECONDS: "2",
      FOLDER_POLL_SECONDS: "0.3",
      PROBE_SECONDS: "2",
      EGRESS_PRIVATE: "allow",
    });
  });
  after(async () => {
    await service.end();
    await server.stop();
    for (const endpoint of endpoints) await endpoint.stop();
  });

  /** A mailbox on an honest server but for what is given. */
  async function start(id: string, wish: Wish = {}) {
    const liar = createLiar(randomFrom(1), { ...TRUE, ...wish.traits });
    liar.stopLying();
    const folders = new Map((wish.folders ?? ["INBOX"]).map((name) => [name, emptyFolder()]));
    const box: LiarMailbox = {
      folders,
      liar: { ...liar, ...wish.lies },
      expunged: [],
      looks: 0,
      asked: new Set(),
      cutsAt: wish.cutsAt,
      connections: new Set(),
    };
    server.mailboxes.set(id, box);
    for (const [subject, receivedAt] of wish.lying ?? []) store(box, "INBOX", { subject, receivedAt });
    const endpoint = await startEndpoint();
    endpoints.push(endpoint);
    const receive = { folders: wish.folders ?? ["INBOX"], ...wish.receive };
    const deliver = { ...toEndpoint(endpoint), ...wish.deliver };
    await register(service, imapBody({ imapPort: server.port }, id, { id, receive, deliver }));
    const call = async (method: string, path = "", body?: unknown) =>
      (await service.call(method, `/api/v1/mailboxes/${id}${path}`, body)).body;
    const state = async () => (await call("GET")).state;
    await service.until(`${id} to listen`, async () => ["listening", "polling"].includes((await state()).status));
    const kinds = async (): Promise<string[]> =>
      (await call("GET", "/events?limit=200")).items.map(({ kind }: { kind: string }) => kind);
    const parked = async () => (await service.call("GET", `/api/v1/deliveries?state=parked&mailbox=${id}`)).body.items;
    const add = (subject: string, more: Partial<Letter> = {}, folder = "INBOX") => {
      store(box, folder, { subject, ...more });
      server.announce(id, folder);
    };
    return { id, box, endpoint, call, state, kinds, parked, add };
  }

  async function renumber({ id, box, kinds }: Awaited<ReturnType<typeof start>>): Promise<void> {
    const inbox = box.folders.get("INBOX");
    assert.ok(inbox);
    inbox.uidValidity++;
    for (const message of inbox.messages) message.uid += 10;
    inbox.uidNext += 10;
    server.disconnect(id);
    await service.until("the folder to be read again", async () => (await kinds()).includes("mailbox.reset"));
  }

  test("keeps a message on the server of which something was left out, and says why", async () => {
    const wish = { receive: { afterDelivery: "delete" }, deliver: { maxAttachmentBytes: 10 } };
    const m = await start("left-out", wish);
    m.add("with a file", { attachment: "more than ten bytes" });
    m.add("whole");
    await service.until("the whole one to be deleted", () => m.box.expunged.length > 0);
    await service.until("the other to be kept", async () => (await m.kinds()).includes("mail.kept"));
    assert.deepEqual(
      m.box.folders.get("INBOX")?.messages.map(({ content }) => content),
      ["with a file"],
    );
    const { body } = await service.call("GET", `/api/v1/deliveries?state=delivered&mailbox=${m.id}`);
    assert.ok(
      body.items.some(({ reason }: { reason: string | null }) => /attachments over 10 bytes/.test(reason ?? "")),
    );
  });

  test("deletes the same message when all its bytes were posted", async () => {
    const m = await start("posted-raw", {
      receive: { afterDelivery: "delete" },
      deliver: { format: "raw", maxAttachmentBytes: 10 },
    });
    m.add("with a file", { attachment: "more than ten bytes" });
    await service.until("it to be deleted", () => m.box.expunged.includes("with a file"));
  });

  test("deletes no other message that got the same uid meanwhile", async () => {
    const m = await start("swapped", { receive: { afterDelivery: "delete" } });
    m.endpoint.answer(() => {
      // Between acceptance and deletion the server restores a backup, without a new UIDVALIDITY.
      const inbox = m.box.folders.get("INBOX");
      if (inbox)
        inbox.messages = inbox.messages.map((one) => ({ ...toStored(letter({ subject: "another letter" }), one.uid) }));
      return {};
    });
    m.add("delivered");
    await service.until("it to be kept", async () => (await m.kinds()).includes("mail.kept"));
    assert.deepEqual(m.box.expunged, []);
  });

  test("posts no old letter that somebody files, however it comes there, but a new one with a wrong date", async () => {
    const m = await start("filed");
    m.add("filed", { receivedAt: Date.now() - 400 * DAY, date: Date.now() - 400 * DAY });
    m.add("wrong date", { receivedAt: Date.now() - 400 * DAY });
    m.add("new");
    await m.endpoint.waitFor(2);
    await service.until("the old one to be settled", async () => (await m.kinds()).includes("mail.skipped"));
    assert.deepEqual(subjects(m.endpoint), ["new", "wrong date"]);
  });

  test("delivers a uid that becomes visible after the next one", async () => {
    let hidden = true;
    const hides = ({ content }: { content: string }) => hidden && content === "late";
    const m = await start("late", { lies: {} });
    const { rowsOf } = m.box.liar;
    m.box.liar.hidesFromSearch = hides;
    m.box.liar.rowsOf = (message, ...rest) => (hides(message) ? { now: [], late: [] } : rowsOf(message, ...rest));
    m.add("late");
    m.add("next");
    await m.endpoint.waitFor(1);
    hidden = false;
    m.add("and one more");
    await m.endpoint.waitFor(3);
    assert.deepEqual(subjects(m.endpoint), ["and one more", "late", "next"]);
  });

  test("delivers a uid that neither SEARCH nor FETCH shows at the late first look at its folder", async () => {
    let hidden = true;
    const hides = ({ content }: { content: string }) => hidden && content === "unseen";
    const traits = { locked: "INBOX" };
    const m = await start("late-first-look", { traits, folders: ["INBOX", "Other"] });
    const { rowsOf } = m.box.liar;
    m.box.liar.hidesFromSearch = hides;
    m.box.liar.rowsOf = (message, ...rest) => (hides(message) ? { now: [], late: [] } : rowsOf(message, ...rest));
    m.add("older", { receivedAt: Date.now() - DAY, date: Date.now() - DAY });
    // What came in the second of the registration counts as older.
    const receivedAt = Date.now() + 1000;
    m.add("unseen", { receivedAt });
    m.add("seen", { receivedAt });
    m.box.liar.traits.locked = undefined;
    await m.endpoint.waitFor(1);
    hidden = false;
    m.add("after");
    await m.endpoint.waitFor(3);
    assert.deepEqual(subjects(m.endpoint), ["after", "seen", "unseen"]);
  });

  test("finds new mail under uids that its server used before, and repeats none", async () => {
    const m = await start("back");
    m.add("first");
    m.add("second");
    await m.endpoint.waitFor(2);
    // A backup is restored: the second letter is lost, and its uid will be used again.
    const inbox = m.box.folders.get("INBOX");
    assert.ok(inbox);
    inbox.messages.pop();
    inbox.uidNext--;
    const { looks } = m.box;
    server.disconnect(m.id);
    await service.until("the folder to be looked at", () => m.box.looks > looks + 1);
    m.add("third");
    await m.endpoint.waitFor(3);
    assert.deepEqual(subjects(m.endpoint), ["first", "second", "third"]);
    assert.equal(m.endpoint.repeats.length, 0);
  });

  test("hears that its open folder is renumbered, reads it again, and repeats none", async () => {
    const m = await start("renumbered-open");
    m.add("first");
    m.add("second");
    await m.endpoint.waitFor(2);
    const inbox = m.box.folders.get("INBOX");
    assert.ok(inbox);
    inbox.uidValidity++;
    inbox.uidNext += 10;
    for (const message of inbox.messages) message.uid += 10;
    server.say(m.id, `* OK [UIDVALIDITY ${inbox.uidValidity}] renumbered`);
    m.add("third");
    await m.endpoint.waitFor(3);
    await service.until("the folder to be read again", async () => (await m.kinds()).includes("mailbox.reset"));
    await service.until("it to listen again", async () => (await m.state()).status === "listening");
    assert.deepEqual(subjects(m.endpoint), ["first", "second", "third"]);
  });

  test("parks the one message that cuts the connection, shows it, and delivers the others", async () => {
    const m = await start("cuts");
    m.box.liar.grudgeAgainst("bad");
    const { rowsOf } = m.box.liar;
    m.box.liar.rowsOf = (message, sequence, items) =>
      message.content === "bad" && items.includes("BODY") ? "cut" : rowsOf(message, sequence, items);
    for (const subject of ["one", "bad", "two", "three"]) m.add(subject);
    await m.endpoint.waitFor(3);
    const [parked] = await service.until("it to be parked", async () => (await m.parked()).length > 0 && m.parked());
    assert.match(parked.reason, /does not give this message/);
    assert.equal((await m.state()).parked.count, 1);
    m.add("four");
    await m.endpoint.waitFor(4);
  });

  test("finds a parked message by a replay after its folder was renumbered, though its date is old", async () => {
    const m = await start("parked-then-renumbered");
    const { rowsOf } = m.box.liar;
    let isRefused = true;
    m.box.liar.rowsOf = (message, sequence, items) =>
      isRefused && message.content === "bad" && items.includes("BODY") ? "cut" : rowsOf(message, sequence, items);
    m.add("bad", { receivedAt: Date.now() - 400 * DAY });
    m.add("good");
    await m.endpoint.waitFor(1);
    const [parked] = await service.until("it to be parked", async () => (await m.parked()).length > 0 && m.parked());
    await renumber(m);
    m.add("after");
    await m.endpoint.waitFor(2);
    isRefused = false;
    m.box.liar.rowsOf = rowsOf;
    await service.call("POST", `/api/v1/deliveries/${parked.id}/replay`);
    await m.endpoint.waitFor(3);
    assert.deepEqual(subjects(m.endpoint), ["after", "bad", "good"]);
    assert.equal(m.endpoint.repeats.length, 0);
    await service.until("nothing to stay parked", async () => (await m.parked()).length === 0);
  });

  test("posts a delivered message again by a replay after its folder was renumbered, and no other one", async () => {
    const m = await start("delivered-then-renumbered");
    m.add("wanted");
    m.add("unasked");
    await m.endpoint.waitFor(2);
    const wanted = await service.until("both to be recorded", async () => {
      const { items } = (await service.call("GET", `/api/v1/deliveries?mailbox=${m.id}&state=delivered`)).body;
      return (
        items.length === 2 && items.find((one: { message: { subject: string } }) => one.message.subject === "wanted")
      );
    });
    await renumber(m);
    await service.call("POST", `/api/v1/deliveries/${wanted.id}/replay`);
    await service.until("it to be posted again", () => m.endpoint.repeats.length > 0);
    m.add("after");
    await m.endpoint.waitFor(3);
    assert.deepEqual(subjects(m.endpoint), ["after", "unasked", "wanted"]);
    assert.equal(m.endpoint.repeats.length, 1);
  });

  test("delivers a waiting message of a renumbered folder that the first search does not show", async () => {
    const m = await start("renumbered-while-waiting");
    // How often the worker searched for old messages of the renumbered folder.
    let searches = Number.NaN;
    const { rowsOf } = m.box.liar;
    m.box.liar.rowsOf = (message, sequence, items) => {
      if (message.content !== "waiting") return rowsOf(message, sequence, items);
      if (items.includes("BODY") && !(searches >= 1)) return "cut";
      return searches === 1 ? { now: [], late: [] } : rowsOf(message, sequence, items);
    };
    m.box.liar.hidesFromSearch = ({ content }) => content === "waiting" && ++searches === 1;
    m.add("waiting", { receivedAt: Date.now() - 400 * DAY });
    m.add("good");
    await m.endpoint.waitFor(1);
    await service.until("it to be tried", async () => (await m.kinds()).includes("mail.download_failed"));
    searches = 0;
    await renumber(m);
    await m.endpoint.waitFor(2);
    assert.deepEqual(subjects(m.endpoint), ["good", "waiting"]);
    assert.ok(!(await m.kinds()).includes("mail.gone"));
  });

  test("parks none when the same is said of every message, shows the words, and goes on when it is over", async () => {
    let full = true;
    const m = await start("withheld");
    const { rowsOf } = m.box.liar;
    m.box.liar.rowsOf = (message, sequence, items) =>
      full && items.includes("BODY") ? "refuse" : rowsOf(message, sequence, items);
    for (const subject of ["one", "two"]) m.add(subject);
    await service.until(
      "many attempts",
      async () => (await m.kinds()).filter((kind) => kind === "mail.download_failed").length > 24,
    );
    assert.deepEqual(await m.parked(), []);
    assert.match(JSON.stringify((await m.state()).problem), /this one not/);
    full = false;
    await m.endpoint.waitFor(2);
    await service.until("the problem to be over", async () => (await m.state()).problem === null);
  });

  test("goes on without a folder that is not opened, names it, and finds it when it opens", async () => {
    const m = await start("closed", { folders: ["INBOX", "Orders"], traits: { locked: "Orders" } });
    m.add("in the inbox");
    await m.endpoint.waitFor(1);
    const { status, problem } = await service.until("it to be named", async () => {
      const state = await m.state();
      return state.problem && state;
    });
    assert.equal(status, "listening");
    assert.match(problem.cause, /"Orders"/);
    m.box.liar.traits.locked = undefined;
    await service.until("the problem to be over", async () => (await m.state()).problem === null);
    m.add("an order", {}, "Orders");
    await m.endpoint.waitFor(2);
  });

  for (const cutsAt of ["Broken", "INBOX"])
    test(`goes on without a folder at which the server cuts each connection: ${cutsAt}`, async () => {
      const folders = ["INBOX", "Broken", "Orders"];
      const m = await start(`cut-${cutsAt.toLowerCase()}`, { folders, cutsAt });
      const { problem } = await service.until("it to be named", async () => {
        const state = await m.state();
        return state.status === "listening" && state.problem?.code === "folder" && state;
      });
      assert.match(problem.cause, new RegExp(`connection ends when the folder "${cutsAt}" is opened`));
      for (const folder of folders.filter((one) => one !== cutsAt)) m.add(`in ${folder}`, {}, folder);
      await m.endpoint.waitFor(2);
    });

  test("asks before it posts very many letters that a moved server shows as new, and a person decides", async () => {
    const many = Array.from({ length: 130 }, (_, at): [string, number] => [`old ${at}`, Date.now() - 3 * DAY]);
    for (const [id, decide] of [
      ["moved", (m: Started) => m.call("POST", "/confirm")],
      ["moved-past", (m: Started) => m.call("POST", "/resync", { since: new Date(Date.now() + DAY).toISOString() })],
    ] as const) {
      const m = await start(id, { lying: many });
      m.add("known");
      await m.endpoint.waitFor(1);
      const inbox = m.box.folders.get("INBOX");
      assert.ok(inbox);
      // As after a move by a program that keeps neither uids nor dates.
      Object.assign(inbox, { uidValidity: inbox.uidValidity + 1 });
      for (const message of inbox.messages) message.receivedAt = Date.now();
      server.disconnect(m.id);
      const { problem } = await service.until("it to ask", async () => {
        const state = await m.state();
        return state.status === "needs_attention" && state;
      });
      assert.equal(problem.code, "confirm");
      assert.match(problem.cause, /13\d letters/);
      assert.equal((await service.call("POST", "/api/v1/mailboxes/left-out/confirm")).status, 409);
      await decide(m);
      await service.until("it to listen", async () => (await m.state()).status === "listening");
      m.add("after that");
      await m.endpoint.waitFor(id === "moved" ? 132 : 2);
      assert.equal(m.endpoint.repeats.length, 0);
    }
  });
});

type Started = { call(method: string, path?: string, body?: unknown): Promise<any> };
type Wish = {
  traits?: Partial<Traits>;
  lies?: Partial<Liar>;
  folders?: string[];
  cutsAt?: string;
  receive?: object;
  deliver?: object;
  lying?: [subject: string, receivedAt: number][];
};
type Letter = { subject: string; receivedAt: number; date: number; attachment: string };

function emptyFolder(): StoredFolder {
  return { uidValidity: 1000, uidNext: 1, messages: [] };
}

function letter({ subject, receivedAt = Date.now(), date = Date.now(), attachment }: Partial<Letter>): Letter {
  return { subject: subject ?? "", receivedAt, date, attachment: attachment ?? "" };
}

function toStored({ subject, receivedAt, date, attachment }: Letter, uid: number) {
  const head = `From: a@example.org\r\nDate: ${new Date(date).toUTCString()}\r\nSubject: ${subject}\r\nMIME-Version: 1.0\r\n`;
  const parts = `--b\r\nContent-Type: text/plain\r\n\r\nHello\r\n--b\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=f\r\n\r\n${attachment}\r\n--b--\r\n`;
  const body = attachment ? `Content-Type: multipart/mixed; boundary=b\r\n\r\n${parts}` : `\r\nHello ${subject}\r\n`;
  return { uid, content: subject, raw: Buffer.from(head + body), receivedAt };
}

function store(box: LiarMailbox, folder: string, wanted: Partial<Letter>): void {
  const stored = box.folders.get(folder);
  if (stored) stored.messages.push(toStored(letter(wanted), stored.uidNext++));
}
