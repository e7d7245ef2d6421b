/** What users of the servers that the suite leaves out see: mail arrives once, and goes after its delivery only. Needs root on Debian. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { imapBody, PASSWORD, register, toEndpoint } from "../bodies.ts";
import type { MaildropServer } from "../promises/maildrops.ts";
import { overImap } from "../promises/maildrops.ts";
import { startCourier } from "../servers/courier.ts";
import { startCyrus } from "../servers/cyrus.ts";
import { message, numbered } from "../servers/mail.ts";
import type { MailServer } from "../servers/mail-server.ts";
import { startImap4d, startPop3d } from "../servers/mailutils.ts";
import { look, nodeBeside, subjectOf } from "../stories/scene.ts";

/** Servers that do not notify are looked at often. */
const OFTEN = { PROBE_SECONDS: "5", FOLDER_POLL_SECONDS: "5" };
const SMALL = 6;
const BIG = 3_500_000;

type Place = {
  stop(): Promise<void>;
  addUser(user: string, password: string): Promise<void>;
  append(user: string, raw: Buffer): Promise<unknown>;
  count(user: string): Promise<number>;
  body(user: string, changes: object): ReturnType<typeof imapBody>;
};

const over = (server: MailServer): Place => ({
  stop: server.stop,
  addUser: server.addUser,
  append: (user, raw) => server.append(user, "INBOX", raw),
  count: (user) => server.count(user, "INBOX"),
  body: (user, changes) => imapBody(server, user, changes),
});
const overPop3 = (server: MaildropServer): Place => ({
  ...server,
  body: (user, changes) => {
    const { receive, ...others } = imapBody({ imapPort: server.pop3Port }, user, changes);
    return { ...others, receive: { ...receive, protocol: "pop3", poll: { everySeconds: 10 } } };
  },
});

const PLACES: Record<string, () => Promise<Place>> = {
  "Cyrus by IMAP": async () => over(await startCyrus()),
  "Courier by IMAP": async () => over(await startCourier()),
  "Courier by POP3": async () => {
    const server = await startCourier();
    return overPop3(overImap(server, server.stop));
  },
  "GNU Mailutils by IMAP": async () => over(await startImap4d()),
  "GNU Mailutils by POP3": async () => overPop3(await startPop3d()),
};

for (const [name, start] of Object.entries(PLACES))
  test(`${name}: nothing goes before it is accepted, and kill -9 in the middle repeats no delivery under another id`, async () => {
    const { service, mail, endpoint, end } = await nodeBeside(await start(), OFTEN);
    try {
      await mail.addUser("bob", PASSWORD);
      endpoint.answer(() => ({ status: 503 }));
      const receive = { since: "2001-01-01", afterDelivery: "delete" };
      await mail.append("bob", message({ subject: "large", bytes: BIG }));
      const id = await register(service, mail.body("bob", { receive, deliver: toEndpoint(endpoint) }));
      await service.until("the first attempt", () => endpoint.requests.length > 0);
      for (let n = 0; n < SMALL; n++) await mail.append("bob", numbered(n, { subject: `small ${n}` }));
      const waiting = () =>
        service.facts.filter(({ kind }) => kind === "mail.retrying").map(({ delivery }) => delivery);
      await service.until("all to wait", () => new Set(waiting()).size > SMALL, 120_000);
      assert.equal(await mail.count("bob"), SMALL + 1, "nothing is deleted that was not accepted");
      endpoint.answer(() => ({ status: 200 }));
      await endpoint.waitFor(2, 120_000);
      await service.kill();
      await service.start();
      await endpoint.waitFor(SMALL + 1, 120_000);
      await service.until("the folder to be empty", async () => (await mail.count("bob")) === 0, 120_000);
      await mail.append("bob", numbered(SMALL, { subject: "after" }));
      await look(service, id);
      await endpoint.waitFor(SMALL + 2, 120_000);
      const ids = Map.groupBy(endpoint.received, subjectOf);
      for (const [subject, requests] of ids)
        assert.equal(new Set(requests.map((request) => request.id)).size, 1, `${subject} has one delivery id`);
      assert.equal(ids.size, SMALL + 2);
    } finally {
      await end();
    }
  });
