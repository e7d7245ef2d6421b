/**
 * HTTP/1.1 on bare sockets, for a test server that must know which connection a request came on (NTLM belongs to one) and
 * must be able to cut an answer at any byte, alike on every runtime.
 */
import { createServer, type Server, type Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import type { KeyPair } from "../certificates.ts";
import { listenOn } from "../ports.ts";

/** One connection; `memory` is what the server keeps about it. */
export type Wire = { readonly id: number; readonly memory: Map<string, unknown> };

export type HttpRequest = {
  method: string;
  path: string;
  headers: Record<string, string>;
  body: Buffer;
  wire: Wire;
};

/** The way back. Either `whole`, or `begin` and then `write` and `end`. */
export type HttpReply = {
  whole(status: number, headers: Record<string, string | string[]>, body: string | Buffer): void;
  begin(status: number, headers: Record<string, string | string[]>): void;
  write(bytes: string | Buffer): void;
  end(): void;
  /** Ends the connection without a further byte. */
  cut(): void;
  /** The connection ends after so many more bytes. */
  cutAfter(bytes: number): void;
  /** Runs once, when the connection is gone. */
  closed(work: () => void): void;
};

export type HttpServer = {
  port: number;
  open(): number;
  disconnectAll(): void;
  stop(): Promise<void>;
};

export type Handler = (request: HttpRequest, reply: HttpReply) => Promise<void>;

export type HttpOptions = {
  port: number;
  tls?: KeyPair | undefined;
  /** Bodies go out in HTTP chunks of this size. */
  chunkBytes?: number | undefined;
};

/** Listens on 127.0.0.1; requests of one connection are answered one after the other. */
export async function listenHttp(options: HttpOptions, handler: Handler): Promise<HttpServer> {
  const sockets = new Set<Socket>();
  let count = 0;
  const take = (socket: Socket): void => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.setNoDelay(true);
    const wire: Wire = { id: ++count, memory: new Map() };
    serve(socket, wire, options, handler);
  };
  const server: Server = options.tls ? createTlsServer({ ...options.tls }, take) : createServer(take);
  const port = await listenOn(server, options.port);
  const disconnectAll = () => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    port,
    open: () => sockets.size,
    disconnectAll,
    async stop() {
      const stopped = new Promise((resolve) => server.close(resolve));
      disconnectAll();
      await stopped;
    },
  };
}

function serve(socket: Socket, wire: Wire, options: HttpOptions, handler: Handler): void {
  let pieces: Buffer[] = [];
  let size = 0;
  let wanted = 0;
  let turn = Promise.resolve();
  socket.on("error", () => undefined);
  socket.on("data", (piece: Buffer) => {
    pieces.push(piece);
    size += piece.length;
    if (size < wanted) return;
    let bytes = pieces.length === 1 ? piece : Buffer.concat(pieces);
    for (;;) {
      const found = readRequest(bytes, wire, () => socket.write("HTTP/1.1 100 Continue\r\n\r\n"));
      wanted = found.wanted;
      if (!found.request) break;
      const { request } = found;
      bytes = bytes.subarray(found.used);
      turn = turn.then(() => handler(request, replyOn(socket, request, options))).catch(() => void socket.destroy());
    }
    pieces = bytes.length > 0 ? [bytes] : [];
    size = bytes.length;
  });
}

type Found = { request?: HttpRequest; used: number; wanted: number };

function readRequest(bytes: Buffer, wire: Wire, proceed: () => void): Found {
  const end = bytes.indexOf("\r\n\r\n");
  if (end < 0) return { used: 0, wanted: 0 };
  const [first = "", ...lines] = bytes.subarray(0, end).toString("latin1").split("\r\n");
  const [method = "", path = ""] = first.split(" ");
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const colon = line.indexOf(":");
    headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
  }
  if (/100-continue/i.test(headers["expect"] ?? "") && !wire.memory.get("continued")) {
    wire.memory.set("continued", true);
    proceed();
  }
  const start = end + 4;
  const body = /chunked/i.test(headers["transfer-encoding"] ?? "")
    ? readChunks(bytes, start)
    : readLength(bytes, start, Number(headers["content-length"] ?? 0));
  if (!body.content) return { used: 0, wanted: body.wanted };
  wire.memory.delete("continued");
  return { request: { method, path, headers, body: body.content, wire }, used: body.end, wanted: 0 };
}

type Body = { content?: Buffer; end: number; wanted: number };

function readLength(bytes: Buffer, start: number, length: number): Body {
  const end = start + length;
  return bytes.length < end ? { end, wanted: end } : { content: bytes.subarray(start, end), end, wanted: 0 };
}

function readChunks(bytes: Buffer, start: number): Body {
  const chunks: Buffer[] = [];
  let at = start;
  for (;;) {
    const line = bytes.indexOf("\r\n", at);
    if (line < 0) return { end: 0, wanted: bytes.length + 1 };
    const length = Number.parseInt(bytes.subarray(at, line).toString("latin1"), 16);
    const end = line + 2 + length + 2;
    if (bytes.length < end) return { end: 0, wanted: end };
    if (length === 0) return { content: Buffer.concat(chunks), end, wanted: 0 };
    chunks.push(bytes.subarray(line + 2, end - 2));
    at = end;
  }
}

const REASONS: Record<number, string> = { 200: "OK", 302: "Found", 401: "Unauthorized", 404: "Not Found" };

function headOf(status: number, headers: Record<string, string | string[]>): string {
  const lines = Object.entries(headers).flatMap(([name, value]) => [value].flat().map((one) => `${name}: ${one}`));
  return [`HTTP/1.1 ${status} ${REASONS[status] ?? "Status"}`, ...lines, "", ""].join("\r\n");
}

function replyOn(socket: Socket, request: HttpRequest, { chunkBytes }: HttpOptions): HttpReply {
  let left = Number.POSITIVE_INFINITY;
  const last = /close/i.test(request.headers["connection"] ?? "");
  const send = (bytes: Buffer): void => {
    if (socket.destroyed) return;
    if (bytes.length < left) {
      left -= bytes.length;
      socket.write(bytes);
      return;
    }
    const some = bytes.subarray(0, left);
    left = 0;
    socket.write(some, () => socket.destroy());
  };
  const finish = (): void => {
    if (last && !socket.destroyed) socket.end();
  };
  const reply: HttpReply = {
    whole(status, headers, body) {
      if (chunkBytes !== undefined && body.length > 0) {
        reply.begin(status, headers);
        reply.write(body);
        return reply.end();
      }
      const bytes = Buffer.from(body);
      const framed = { ...headers, "Content-Length": String(bytes.length) };
      send(Buffer.concat([Buffer.from(headOf(status, framed)), bytes]));
      return finish();
    },
    begin: (status, headers) => send(Buffer.from(headOf(status, { ...headers, "Transfer-Encoding": "chunked" }))),
    write(body) {
      const bytes = Buffer.from(body);
      const step = chunkBytes ?? Math.max(bytes.length, 1);
      for (let at = 0; at < bytes.length; at += step) send(chunk(bytes.subarray(at, at + step)));
    },
    end() {
      send(Buffer.from("0\r\n\r\n"));
      finish();
    },
    cut: () => void socket.destroy(),
    cutAfter: (bytes) => void (left = bytes),
    closed: (work) => void (socket.destroyed ? work() : socket.once("close", work)),
  };
  return reply;
}

function chunk(bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from("\r\n")]);
}
