/** Delivers a message as a mail transfer agent does, by LMTP (RFC 2033). */
import { connect, type Socket } from "node:net";
import { ByteReader } from "./imap/reader.ts";

/** Delivers to one receiver; resolves when the server has taken the message. */
export async function deliverByLmtp(port: number, to: string, raw: Buffer | string): Promise<void> {
  const socket = connect(port, "127.0.0.1");
  const reader = new ByteReader();
  socket.on("data", (chunk) => reader.push(chunk));
  socket.on("error", () => socket.destroy());
  socket.on("close", () => reader.end());
  try {
    await expect(reader, "220");
    await say(socket, reader, "LHLO tests.example", "250");
    await say(socket, reader, "MAIL FROM:<sender@sender.example>", "250");
    await say(socket, reader, `RCPT TO:<${to}>`, "250");
    await say(socket, reader, "DATA", "354");
    socket.write(dotted(Buffer.from(raw)));
    await say(socket, reader, ".", "250");
    socket.end("QUIT\r\n");
  } finally {
    socket.destroySoon();
  }
}

// A line that begins with a dot gets another one, and the last line ends (RFC 5321 section 4.5.2).
function dotted(raw: Buffer): Buffer {
  const text = raw.toString("latin1").replaceAll(/^\./gm, "..");
  return Buffer.from(text.endsWith("\r\n") ? text : `${text}\r\n`, "latin1");
}

async function say(socket: Socket, reader: ByteReader, line: string, code: string): Promise<void> {
  socket.write(`${line}\r\n`);
  await expect(reader, code);
}

async function expect(reader: ByteReader, code: string): Promise<void> {
  while (true) {
    const line = (await reader.line())?.toString() ?? "the connection has ended";
    if (line.startsWith(`${code}-`)) continue;
    if (line.startsWith(code)) return;
    throw new Error(`LMTP expected ${code}: ${line}`);
  }
}
