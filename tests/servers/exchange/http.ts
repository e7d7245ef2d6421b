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
  let turn = Promise.resolve();
  const read = requestReader(
    wire,
    () => void socket.write("HTTP/1.1 100 Continue\r\n\r\n"),
    (request) => {
      turn = turn
        .then(() => handler(request, replyOn(socket, request, options)))
        .catch((error: unknown) => {
          console.error("The test server failed:", error);
          socket.destroy();
        });
    },
  );
  socket.on("error", () => undefined);
  socket.on("data", read);
}

type Head = Pick<HttpRequest, "method" | "path" | "headers">;

/** What comes next: the head, so many bytes of the body, the line before a chunk, or the line after the last one. */
type State = { kind: "head" | "size" | "trailer" } | { kind: "body" | "chunk"; left: number };

/** Reads requests from the pieces of a connection, each byte once. */
function requestReader(wire: Wire, proceed: () => void, take: (request: HttpRequest) => void) {
  let rest = Buffer.alloc(0);
  let head: Head = { method: "", path: "", headers: {} };
  let body: Buffer[] = [];
  let state: State = { kind: "head" };
  const whole = (): State => {
    take({ ...head, body: body.length === 1 && body[0] ? body[0] : Buffer.concat(body), wire });
    body = [];
    return { kind: "head" };
  };
  const line = (end: string): string | undefined => {
    const found = rest.indexOf(end);
    if (found < 0) return undefined;
    const text = rest.subarray(0, found).toString("latin1");
    rest = rest.subarray(found + end.length);
    return text;
  };
  const steps: Record<State["kind"], () => State | undefined> = {
    head() {
      const text = line("\r\n\r\n");
      if (text === undefined) return undefined;
      head = readHead(text);
      if (/100-continue/i.test(head.headers["expect"] ?? "")) proceed();
      if (/chunked/i.test(head.headers["transfer-encoding"] ?? "")) return { kind: "size" };
      const left = Number(head.headers["content-length"] ?? 0);
      return left > 0 ? { kind: "body", left } : whole();
    },
    size() {
      const left = Number.parseInt(line("\r\n") ?? "", 16);
      if (Number.isNaN(left)) return undefined;
      // The line end after the chunk is counted with it.
      return left > 0 ? { kind: "chunk", left: left + 2 } : { kind: "trailer" };
    },
    trailer: () => (line("\r\n") === undefined ? undefined : whole()),
    body: () => (swallow(0) > 0 ? undefined : whole()),
    chunk: () => (swallow(2) > 0 ? undefined : { kind: "size" }),
  };
  /** Takes what is there of the body, but the last so many bytes of a chunk; says what is still to come. */
  const swallow = (lineEnd: number): number => {
    if (!("left" in state)) return 0;
    const some = rest.subarray(0, state.left);
    rest = rest.subarray(some.length);
    const content = some.subarray(0, Math.max(0, state.left - lineEnd));
    if (content.length > 0) body.push(content);
    state.left -= some.length;
    return state.left;
  };
  return (piece: Buffer): void => {
    rest = rest.length === 0 ? Buffer.from(piece) : Buffer.concat([rest, piece]);
    for (let next = steps[state.kind](); next; next = steps[state.kind]()) state = next;
  };
}

function readHead(text: string): Head {
  const [first = "", ...lines] = text.split("\r\n");
  const [method = "", path = ""] = first.split(" ");
  const headers: Record<string, string> = {};
  for (const one of lines) {
    const colon = one.indexOf(":");
    headers[one.slice(0, colon).toLowerCase()] = one.slice(colon + 1).trim();
  }
  return { method, path, headers };
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
