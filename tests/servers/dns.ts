/** A name server for tests: it answers questions over UDP with the records that it was given (RFC 1035, RFC 2782). */
import { createSocket } from "node:dgram";
import { once } from "node:events";

type Srv = { type: "SRV"; priority: number; weight: number; port: number; target: string };
type Mx = { type: "MX"; priority: number; target: string };
export type DnsRecord = Srv | Mx;

export type DnsServer = {
  /** As a setting names it: address and port. */
  address: string;
  /** The records by their names in lower case. A name that is not in it does not exist. */
  records: Map<string, DnsRecord[]>;
  /** The names that were asked for. */
  asked: string[];
  /** While true nothing is answered. */
  silent: boolean;
  stop(): Promise<void>;
};

const HEADER_BYTES = 12;
const TYPES: Record<number, DnsRecord["type"]> = { 15: "MX", 33: "SRV" };
const [RESPONSE, NO_SUCH_NAME] = [0x8580, 3];

export async function startDns(): Promise<DnsServer> {
  const socket = createSocket("udp4");
  const server: DnsServer = {
    address: "",
    records: new Map(),
    asked: [],
    silent: false,
    async stop() {
      socket.close();
      await once(socket, "close");
    },
  };
  socket.on("message", (question, from) => {
    const { name, type, end } = readQuestion(question);
    server.asked.push(name);
    if (server.silent) return;
    const records = server.records.get(name);
    const wanted = (records ?? []).filter((one) => one.type === type);
    const header = Buffer.from(question.subarray(0, HEADER_BYTES));
    header.writeUInt16BE(RESPONSE | (records ? 0 : NO_SUCH_NAME), 2);
    header.writeUInt16BE(wanted.length, 6);
    header.fill(0, 8);
    socket.send([header, question.subarray(HEADER_BYTES, end), ...wanted.map(toAnswer)], from.port, from.address);
  });
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  server.address = `127.0.0.1:${socket.address().port}`;
  return server;
}

function readQuestion(message: Buffer): { name: string; type: DnsRecord["type"] | undefined; end: number } {
  const labels: string[] = [];
  let at = HEADER_BYTES;
  for (let length = message.readUInt8(at); length > 0; length = message.readUInt8(at)) {
    labels.push(message.toString("latin1", at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { name: labels.join(".").toLowerCase(), type: TYPES[message.readUInt16BE(at + 1)], end: at + 5 };
}

/** The name of the answer is a pointer to the one in the question. */
function toAnswer(record: DnsRecord): Buffer {
  const numbers = record.type === "MX" ? [record.priority] : [record.priority, record.weight, record.port];
  const data = Buffer.concat([...numbers.map(toShort), toName(record.target)]);
  const type = record.type === "MX" ? 15 : 33;
  return Buffer.concat([...[0xc000 | HEADER_BYTES, type, 1, 0, 60, data.length].map(toShort), data]);
}

function toShort(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function toName(name: string): Buffer {
  const labels = name.split(".").filter(Boolean);
  return Buffer.concat([...labels.map((one) => Buffer.from([one.length, ...Buffer.from(one)])), Buffer.alloc(1)]);
}
