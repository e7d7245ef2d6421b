/**
 * An SMTP server that follows a script: at every step of the dialogue it can refuse, drop the connection or fall silent. What
 * it took is kept with its envelope, so that a test can count copies. Written against RFC 5321, with PIPELINING or without.
 */
import { createServer, type Server, type Socket } from "node:net";
import { createSecureContext, TLSSocket } from "node:tls";
import type { KeyPair } from "./certificates.ts";
import { waitingRoom } from "./waiting.ts";

/** The steps of the dialogue; `end` is after the final dot, before anything is taken, `taken` after it was. */
export type Step = "greeting" | "ehlo" | "starttls" | "auth" | "mail" | "rcpt" | "data" | "body" | "end" | "taken";

/** A reply of its own instead of the usual one, the end of the connection, silence, or `stall`: silence without reading on. */
export type Deed = string | undefined;

/** One message as it was taken. */
export type Taken = { from: string; to: string[]; raw: string; user: string | undefined };

export type Moment = {
  step: Step;
  /** The command, or the whole message at `end`. */
  line: string;
  /** How often this step was reached before. */
  earlier: number;
  /** Which connection it is, counted from 1. */
  connection: number;
};

export type SmtpScriptOptions = {
  tls?: KeyPair;
  /** TLS from the first byte. */
  implicit?: boolean;
  pipelining?: boolean;
  /** Lines of EHLO beside the usual ones. */
  offers?: string[];
  /** SASL mechanisms of EHLO. */
  mechanisms?: string[];
};

export type SmtpScript = {
  port: number;
  /** Messages answered with 250, in that order. */
  taken: readonly Taken[];
  /** Every moment so far. */
  moments: readonly Moment[];
  /** Connections so far, and those open now. */
  connections: { all: number; now: number };
  /** Says what to do at each moment from now on. */
  play(script: (moment: Moment) => Deed | Promise<Deed>): void;
  /** Resolves once so many messages were taken. */
  waitFor(count: number, timeoutMs?: number): Promise<readonly Taken[]>;
  /** Resolves with the first moment of this step after the call. */
  reached(step: Step, timeoutMs?: number): Promise<Moment>;
  stop(): Promise<void>;
};

const takeAll = (): Deed => undefined;

type Play = (moment: Moment) => Deed | Promise<Deed>;

/** Starts a server on a free port of 127.0.0.1 that takes every message. */
export async function startSmtpScript(options: SmtpScriptOptions = {}): Promise<SmtpScript> {
  const room = waitingRoom();
  const taken: Taken[] = [];
  const moments: Moment[] = [];
  const sockets = new Set<Socket>();
  const connections = { all: 0, now: 0 };
  let script: Play = takeAll;
  const play: Play = (moment) => {
    moments.push(moment);
    room.wake();
    return script(moment);
  };
  const server: Server = createServer((socket) => {
    connections.all++;
    connections.now++;
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      sockets.delete(socket);
      connections.now--;
    });
    const connection = connections.all;
    const talk = new Talk(socket, options, {
      play: (step, line) =>
        play({ step, line, connection, earlier: moments.filter((one) => one.step === step).length }),
      take: (message) => {
        taken.push(message);
        room.wake();
      },
    });
    void talk.run().catch(() => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : 0,
    taken,
    moments,
    connections,
    play: (next) => {
      script = next;
    },
    waitFor: (count, timeoutMs = 10_000) =>
      room.until(
        () => (taken.length >= count ? taken : undefined),
        timeoutMs,
        () => `${taken.length} of ${count} messages were taken`,
      ),
    reached: (step, timeoutMs = 10_000) => {
      const from = moments.length;
      return room.until(
        () => moments.slice(from).find((one) => one.step === step),
        timeoutMs,
        () => `the step ${step} was not reached`,
      );
    },
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

type Ears = { play(step: Step, line: string): Deed | Promise<Deed>; take(message: Taken): void };

class Talk {
  #socket: Socket;
  #options: SmtpScriptOptions;
  #ears: Ears;
  #buffer = "";
  #waiting: (() => void) | undefined;
  #over = false;
  #secure: boolean;
  #from: string | undefined;
  #to: string[] = [];
  #user: string | undefined;

  constructor(socket: Socket, options: SmtpScriptOptions, ears: Ears) {
    this.#options = options;
    this.#ears = ears;
    this.#secure = options.implicit === true;
    this.#socket = this.#secure ? this.#tls(socket) : socket;
    this.#listen();
  }

  #tls(socket: Socket): Socket {
    const secureContext = createSecureContext(this.#options.tls);
    const secure = new TLSSocket(socket, { isServer: true, secureContext });
    secure.on("error", () => socket.destroy());
    return secure;
  }

  #listen(): void {
    this.#socket.on("data", (chunk: Buffer) => {
      this.#buffer += chunk.toString("latin1");
      this.#waiting?.();
    });
    this.#socket.on("close", () => {
      this.#over = true;
      this.#waiting?.();
    });
  }

  async run(): Promise<void> {
    if (!(await this.#act("greeting", "", "220 script ESMTP"))) return;
    for (let line = await this.#line(); line !== undefined; line = await this.#line()) {
      if (!(await this.#command(line))) return;
    }
  }

  async #command(line: string): Promise<boolean> {
    const verb = line.slice(0, 4).toUpperCase();
    if (verb === "EHLO" || verb === "HELO") return (await this.#act("ehlo", line, this.#capabilities())) !== false;
    if (verb === "STAR") return this.#startTls(line);
    if (verb === "AUTH") return this.#auth(line);
    if (verb === "MAIL") {
      const ok = await this.#act("mail", line, "250 2.1.0 sender ok");
      this.#from = ok === "said" ? undefined : addressIn(line);
      this.#to = [];
      return ok !== false;
    }
    if (verb === "RCPT") {
      const ok = await this.#act("rcpt", line, this.#from === undefined ? "503 no sender" : "250 2.1.5 recipient ok");
      if (ok === true && this.#from !== undefined) this.#to.push(addressIn(line));
      return ok !== false;
    }
    if (verb === "DATA") return this.#data(line);
    if (verb === "QUIT") {
      this.#socket.end("221 bye\r\n");
      return false;
    }
    if (verb === "RSET") this.#to = [];
    this.#say(verb === "RSET" || verb === "NOOP" ? "250 ok" : "500 what?");
    return true;
  }

  #capabilities(): string {
    const lines = [
      "script",
      "8BITMIME",
      `AUTH ${(this.#options.mechanisms ?? ["PLAIN", "LOGIN", "XOAUTH2"]).join(" ")}`,
      ...(this.#options.offers ?? ["SIZE 50000000", "DSN", "SMTPUTF8"]),
    ];
    if (this.#options.pipelining !== false) lines.push("PIPELINING");
    if (this.#options.tls && !this.#secure) lines.push("STARTTLS");
    return lines.map((line, n) => `250${n === lines.length - 1 ? " " : "-"}${line}`).join("\r\n");
  }

  async #startTls(line: string): Promise<boolean> {
    const offered = this.#options.tls !== undefined && !this.#secure;
    const ok = await this.#act("starttls", line, offered ? "220 go ahead" : "502 not here");
    if (ok !== true || !offered) return ok !== false;
    this.#socket.removeAllListeners("data");
    this.#buffer = "";
    this.#secure = true;
    this.#socket = this.#tls(this.#socket);
    this.#listen();
    return true;
  }

  async #auth(line: string): Promise<boolean> {
    const [, method = "", first = ""] = line.split(" ");
    if (method.toUpperCase() === "PLAIN") this.#user = Buffer.from(first, "base64").toString().split("\0")[1];
    return (await this.#act("auth", line, "235 2.7.0 welcome")) !== false;
  }

  async #data(line: string): Promise<boolean> {
    const usual = this.#to.length === 0 ? "503 no recipients" : "354 go on";
    const ok = await this.#act("data", line, usual);
    if (ok !== true || this.#to.length === 0) return ok !== false;
    if (!(await this.#act("body", "", undefined))) return false;
    const raw = await this.#message();
    if (raw === undefined) return false;
    const before = await this.#ears.play("end", raw);
    if (before !== undefined) return this.#deed(before) !== false;
    this.#ears.take({ from: this.#from ?? "", to: this.#to, raw, user: this.#user });
    return (await this.#act("taken", "", "250 2.0.0 taken")) !== false;
  }

  /** True when the usual reply was given, "said" when another one was, false when the connection is over. */
  async #act(step: Step, line: string, usual: string | undefined): Promise<boolean | "said"> {
    const deed = await this.#ears.play(step, line);
    if (deed !== undefined) return this.#deed(deed);
    if (usual !== undefined) this.#say(usual);
    return true;
  }

  #deed(deed: string): "said" | false {
    if (deed === "stall") this.#socket.pause();
    if (deed === "hang" || deed === "stall") return false;
    if (deed === "drop") {
      this.#socket.destroy();
      return false;
    }
    this.#say(deed);
    if (deed.startsWith("421")) this.#socket.end();
    return "said";
  }

  #say(text: string): void {
    if (this.#socket.writable) this.#socket.write(`${text}\r\n`);
  }

  async #until(end: string): Promise<string | undefined> {
    for (;;) {
      const at = this.#buffer.indexOf(end);
      if (at >= 0) {
        const found = this.#buffer.slice(0, at);
        this.#buffer = this.#buffer.slice(at + end.length);
        return found;
      }
      if (this.#over) return undefined;
      await new Promise<void>((resolve) => {
        this.#waiting = resolve;
      });
    }
  }

  #line(): Promise<string | undefined> {
    return this.#until("\r\n");
  }

  async #message(): Promise<string | undefined> {
    const text = await this.#until("\r\n.\r\n");
    return text === undefined ? undefined : `${text}\r\n`.replace(/^\./gm, "");
  }
}

function addressIn(line: string): string {
  return /<([^>]*)>/.exec(line)?.[1] ?? "";
}
