/** Who asks the service to send, in a process of its own: so many requests, so many at once. Reads orders, answers with a line each. */
import { Agent, request } from "node:http";
import { createInterface } from "node:readline";

/** What to ask for. `url` is where messages are posted. */
export type LoadOrder = { url: string; token: string; count: number; atOnce: number; bytes: number };

const agent = new Agent({ keepAlive: true });

function post({ url, token }: LoadOrder, body: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = {
      authorization: `Bearer ${token}`,
      "content-type": "application/json",
      "content-length": Buffer.byteLength(body),
    };
    const sent = request(url, { method: "POST", agent, headers }, (response) => {
      const refused = new Error(`The service answered ${response.statusCode}`);
      response.resume().once("end", () => (response.statusCode === 202 ? resolve() : reject(refused)));
    });
    sent.once("error", reject).end(body);
  });
}

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line) as LoadOrder;
  const text = "A line of the message.\r\n".repeat(order.bytes / 24);
  let next = 0;
  const client = async () => {
    for (let n = next++; n < order.count; n = next++)
      await post(order, JSON.stringify({ to: ["bob@example.net"], subject: `bench-${n}-`, text }));
  };
  await Promise.all(Array.from({ length: order.atOnce }, client));
  process.stdout.write("done\n");
}
process.exit();
