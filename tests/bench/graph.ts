/**
 * Mailboxes of Microsoft 365 beside listening by IMAP, in one run: polled, and with notifications. The requests of the idle ones are
 * those of the first hour: after an hour without mail a polled mailbox makes an eighth of them.
 */
import { graphBody } from "../bodies.ts";
import { startGraphServer } from "../servers/graph/server.ts";
import { freePorts } from "../servers/ports.ts";
import { compared, measured } from "./exchange.ts";
import { type Bench, type Row, shown } from "./report.ts";
import { startListening, startOurs } from "./rivals.ts";

/** Measures the three ways one after the other. */
export async function graph(bench: Bench): Promise<Row[]> {
  const { mail, users, sizes, runtime } = bench;
  const imap = await measured(await startOurs(runtime, mail), bench, {
    deliver: (user, raw) => mail.server.deliver(user, raw),
    streams: () => sizes.idle,
  });
  const rows: Row[] = [];
  for (const how of ["polled", "notified"]) {
    const server = await startGraphServer();
    try {
      for (const user of users(sizes.idle)) await server.addUser(`${user}@example.com`);
      const [port = 0] = await freePorts(1);
      const env = how === "notified" ? { PORT: String(port), PUBLIC_URL: `http://127.0.0.1:${port}` } : {};
      const receive = (user: string) => graphBody(server, `${user}@example.com`).receive;
      const figures = await measured(await startListening(runtime, receive, env), bench, {
        deliver: (user, raw) => server.append(`${user}@example.com`, "inbox", raw),
        streams: () => server.subscriptions().length,
        requests: () => server.requests.length,
      });
      const requests = { what: `requests of a mailbox in an hour, ${how}`, ours: shown(figures.requests) };
      rows.push(...compared(how, sizes.idle, figures, imap), { ...requests, bare: "", compared: "" });
    } finally {
      await server.stop();
    }
  }
  return rows;
}
