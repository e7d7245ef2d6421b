/** The reference for sending: nodemailer's own pool, which composes each message and hands it over. Reads one order, answers with a line when all are sent. */
import { createInterface } from "node:readline";
import { createTransport } from "nodemailer";

/** One order to the pool: how many messages to send, and where. */
export type SendOrder = { port: number; count: number; bytes: number; connections: number };

const lines = createInterface({ input: process.stdin });
for await (const line of lines) {
  const { port, count, bytes, connections } = JSON.parse(line) as SendOrder;
  const pool = createTransport({
    pool: true,
    host: "127.0.0.1",
    port,
    secure: false,
    ignoreTLS: true,
    maxConnections: connections,
    maxMessages: Infinity,
    auth: { user: "bench", pass: "bench" },
  });
  const text = "A line of the message.\r\n".repeat(bytes / 24);
  const all = Array.from({ length: count }, (_, n) =>
    pool.sendMail({ from: "bench@example.com", to: "bob@example.net", subject: `bench-${n}-`, text }),
  );
  await Promise.all(all);
  pool.close();
  process.stdout.write("done\n");
}
