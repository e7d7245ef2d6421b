/**
 * Servers that repeat everything they are sent, each time in the style that its user asks for: `u3` gets the fourth. They
 * refuse every login but that of SMTP users whose names end in `in`; whose message they refuse instead.
 */
import {
  createServer as createHttpServer,
  type IncomingMessage,
  type Server as HttpServer,
  type ServerResponse,
} from "node:http";
import { createServer, type Server, type Socket } from "node:net";

const bytes = (text: string, write: (byte: number) => string) => [...Buffer.from(text)].map(write).join("");

/** How a text is repeated. */
export const STYLES: ((text: string) => string)[] = [
  (text) => text,
  (text) => JSON.stringify(text),
  (text) => JSON.stringify(JSON.stringify(text)),
  (text) => Buffer.from(text).toString("base64"),
  (text) => Buffer.from(`xy${text}`).toString("base64").slice(2),
  encodeURIComponent,
  (text) => Buffer.from(text).toString("hex"),
  (text) => Buffer.from(text).toString("latin1"),
  (text) => bytes(text, (byte) => `=${byte.toString(16).toUpperCase().padStart(2, "0")}`),
  (text) => [...text].toReversed().join(""),
  (text) => text.slice(Math.floor(text.length / 2)),
];

export type EchoServers = {
  imap: number;
  /** The same, but it says BYE in place of NO. */
  bye: number;
  pop3: number;
  smtp: number;
  /** `/ews`, `/token`, and any other path: 401, an OAuth error, 500. */
  http: number;
  /** The requests to paths that begin with /crm, whole. */
  callbacks: string[];
  stop(): Promise<void>;
};

/** The style that a text asks for by a user, a client or a path such as u3, c3 or /s3; else the first. */
function repeat(text: string, asked = text): string {
  const [, number = "0"] = /\b[ucs](\d{1,2})(?:in)?\b/.exec(asked) ?? [];
  return STYLES[Number(number)]?.(text).replaceAll(/[\r\n]+/g, " ") ?? text;
}

const decoded = (text: string) => Buffer.from(text, "base64").toString().replaceAll("\0", " ");

export async function startEchoServers(): Promise<EchoServers> {
  const callbacks: string[] = [];
  const sockets = new Set<Socket>();
  const servers: (Server | HttpServer)[] = [];
  const listen = async (server: Server | HttpServer): Promise<number> => {
    servers.push(server);
    server.on("connection", (socket: Socket) => {
      sockets.add(socket);
      socket.on("error", () => undefined).once("close", () => sockets.delete(socket));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    return typeof address === "object" && address ? address.port : 0;
  };
  return {
    imap: await listen(imap("", (tag, words) => `${tag} NO [AUTHENTICATIONFAILED] I heard: ${words}\r\n`)),
    bye: await listen(imap(" AUTH=PLAIN SASL-IR", (_, words) => `* BYE I heard: ${words}\r\n`)),
    pop3: await listen(pop3()),
    smtp: await listen(smtp()),
    http: await listen(createHttpServer((request, response) => void answer(request, response, callbacks))),
    callbacks,
    async stop() {
      for (const socket of sockets) socket.destroy();
      await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
    },
  };
}

/** A server of lines; each connection has a dialogue of its own. */
function lines(greeting: string, dialogue: () => (line: string) => string): Server {
  return createServer((socket) => {
    const reply = dialogue();
    let text = "";
    socket.write(greeting);
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
      const whole = text.split("\r\n");
      text = whole.pop() ?? "";
      for (const line of whole) socket.write(Buffer.from(reply(Buffer.from(line, "latin1").toString("utf8"))));
    });
  });
}

function imap(offered: string, refuse: (tag: string, words: string) => string): Server {
  return lines(`* OK [CAPABILITY IMAP4rev1${offered}] echo\r\n`, () => {
    let before = "";
    return (line) => {
      const whole = `${before}${line}`;
      const [tag = "", command = ""] = whole.split(" ");
      if (/^CAPABILITY$/i.test(command)) return `* CAPABILITY IMAP4rev1${offered}\r\n${tag} OK\r\n`;
      if (/^ID$/i.test(command)) return `${tag} OK\r\n`;
      before = /\{\d+\}$/.test(line) ? `${whole} ` : "";
      return before === "" ? refuse(tag, repeat(`${whole} ${decoded(whole.split(" ").at(-1) ?? "")}`)) : "+ go\r\n";
    };
  });
}

function pop3(): Server {
  return lines("+OK echo\r\n", () => {
    let user = "";
    return (line) => {
      if (/^CAPA/i.test(line)) return "-ERR no\r\n";
      if (/^USER/i.test(line)) {
        user = line;
        return "+OK\r\n";
      }
      return `-ERR [AUTH] I heard: ${repeat(line, user)}\r\n`;
    };
  });
}

function smtp(): Server {
  return lines("220 echo\r\n", () => {
    let [user, body] = ["", ""];
    let reading = false;
    return (line) => {
      if (reading) {
        body += `${line}\n`;
        if (line !== ".") return "";
        reading = false;
        return `554 5.6.0 I heard: ${repeat(body.slice(body.indexOf("\n\n") + 2).slice(0, 300), user)}\r\n`;
      }
      if (/^EHLO/i.test(line)) return "250-echo\r\n250-8BITMIME\r\n250 AUTH PLAIN\r\n";
      if (/^AUTH PLAIN/i.test(line)) {
        user = decoded(line.split(" ")[2] ?? "");
        if (/\bu\d+in\b/.test(user)) return "235 2.7.0 in\r\n";
        return `535 5.7.8 I heard: ${repeat(`${line} = ${user}`, user)}\r\n`;
      }
      if (/^DATA/i.test(line)) {
        [body, reading] = ["", true];
        return "354 go\r\n";
      }
      return "250 2.0.0 ok\r\n";
    };
  });
}

async function answer(request: IncomingMessage, response: ServerResponse, callbacks: string[]): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(Buffer.from(chunk));
  const body = Buffer.concat(chunks).toString();
  const { url = "", headers } = request;
  if (url.startsWith("/crm")) callbacks.push(`${url}\n${body}`);
  const login = decoded(headers.authorization?.split(" ")[1] ?? "");
  if (url === "/token") {
    response.writeHead(400, { "content-type": "application/json" });
    response.end(
      JSON.stringify({ error: "invalid_grant", error_description: `I heard: ${repeat(decodeURIComponent(body))}` }),
    );
  } else if (url.startsWith("/ews")) {
    const words = repeat(`${headers.authorization} ${login}`, login);
    response.writeHead(401, {
      "www-authenticate": 'Basic realm="echo"',
      "x-ms-diagnostics": `2000003;reason="I heard: ${encodeURIComponent(words)}"`,
    });
    response.end(`<html><title>${words}</title></html>`);
  } else {
    response.writeHead(500);
    response.end(`I heard: ${repeat(`${url} ${login} ${JSON.stringify(headers)} ${body}`, url)}`);
  }
}
