/** Servers that say what a script says: floods, and attacks on the beginning of TLS, which no real server does. */
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { createSecureContext, type SecureContextOptions, TLSSocket } from "node:tls";

export type Spoken = {
  /** One line of the client, without its end. */
  line: string;
  isSecure: boolean;
  say(text: string): void;
  /** Says the piece again and again, until the client has gone or so many bytes are sent. */
  flood(piece: string, maxBytes?: number): void;
  /** Ends the connection without a word. */
  cut(): void;
  /** Begins TLS as the server. Lines that come through it are given to the script too. */
  startTls(options: SecureContextOptions): void;
};

export type Script = { greeting: string | ((spoken: Spoken) => void); answer: (spoken: Spoken) => void };

export type ScriptedServer = {
  port: number;
  heard: { line: string; isSecure: boolean }[];
  /** Bytes that the client or its machine has taken, over all connections. */
  taken(): number;
  stop(): Promise<void>;
};

const MAX_FLOOD = 300_000_000;

export async function startScripted({ greeting, answer }: Script): Promise<ScriptedServer> {
  const sockets = new Set<Socket>();
  let ended = 0;
  const heard: ScriptedServer["heard"] = [];
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => {
      sockets.delete(socket);
      ended += socket.bytesWritten;
    });
    speak(socket, false);
  });

  function speak(socket: Socket, isSecure: boolean): void {
    const spoken = (line: string): Spoken => ({
      line,
      isSecure,
      say: (text) => void socket.write(text),
      flood: (piece, maxBytes) => void flood(socket, Buffer.from(piece), maxBytes),
      cut: () => void socket.destroy(),
      startTls(options) {
        socket.removeAllListeners("data");
        const secure = new TLSSocket(socket, { isServer: true, secureContext: createSecureContext(options) });
        secure.on("error", () => undefined);
        speak(secure, true);
      },
    });
    let rest = "";
    socket.on("data", (chunk) => {
      const lines = (rest + chunk.toString("latin1")).split("\r\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        heard.push({ line, isSecure });
        answer(spoken(line));
      }
    });
    if (isSecure) return;
    if (typeof greeting === "string") socket.write(greeting);
    else greeting(spoken(""));
  }

  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  return {
    port: typeof address === "object" && address ? address.port : 0,
    heard,
    taken: () => ended + [...sockets].reduce((sum, { bytesWritten }) => sum + bytesWritten, 0),
    async stop() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

/** The piece grows to a megabyte, so that the flood costs this process little. */
async function flood(socket: Socket, piece: Buffer, maxBytes = MAX_FLOOD): Promise<void> {
  const block = Buffer.concat(Array.from({ length: Math.max(1, Math.floor(65_536 / piece.length)) }, () => piece));
  for (let sent = 0; sent < maxBytes && socket.writable; sent += block.length) {
    if (!socket.write(block)) await Promise.race([once(socket, "drain"), once(socket, "close")]).catch(() => undefined);
  }
}

/** What an IMAP server answers that has one folder and no mail. */
export function answerImap({ line, say }: Pick<Spoken, "line" | "say">, capabilities = "IMAP4rev1"): void {
  const [tag = "", first = "", second = ""] = line.split(" ");
  const command = (/^uid$/i.test(first) ? second : first).toUpperCase();
  if (command === "CAPABILITY") say(`* CAPABILITY ${capabilities}\r\n`);
  if (command === "LIST") say('* LIST () "/" INBOX\r\n');
  if (command === "SELECT" || command === "EXAMINE")
    say("* 0 EXISTS\r\n* OK [UIDVALIDITY 1] v\r\n* OK [UIDNEXT 1] n\r\n");
  if (command === "IDLE") say("+ idling\r\n");
  else if (command === "") say("* OK what\r\n");
  else say(`${tag} OK done\r\n`);
}

/** What a POP3 server answers whose maildrop is empty. */
export function answerPop3({ line, say }: Pick<Spoken, "line" | "say">, capabilities = "UIDL\r\n"): void {
  if (/^CAPA/i.test(line)) say(`+OK\r\n${capabilities}.\r\n`);
  else if (/^(LIST|UIDL)/i.test(line)) say("+OK\r\n.\r\n");
  else say("+OK\r\n");
}

/** What an SMTP server answers. */
export function answerSmtp({ line, say }: Pick<Spoken, "line" | "say">, extensions = "AUTH PLAIN"): void {
  if (/^EHLO/i.test(line)) say(`250-hi\r\n250 ${extensions}\r\n`);
  else if (/^AUTH/i.test(line)) say("235 ok\r\n");
  else say("250 ok\r\n");
}
