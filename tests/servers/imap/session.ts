/** One client connection of the in-process IMAP server: its state, its view of the selected folder, its output. */
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import type { KeyPair } from "../certificates.ts";
import { type Capabilities, capabilityNames } from "./capabilities.ts";
import type { Fault, Faults } from "./faults.ts";
import { type Command, readCommand, Refusal } from "./parser.ts";
import { ByteReader } from "./reader.ts";
import { type Account, type Folder, type FolderChange, type MailStore, type Message, positionOf } from "./store.ts";

/** What a session needs of its server. */
export type SessionServer = {
  store: MailStore;
  faults: Faults;
  capabilities: Capabilities;
  keyPair: KeyPair | undefined;
  /** How many sessions this user has, and how many are allowed. */
  sessionsOf(user: string): number;
  maxConnectionsPerUser: number;
  commands: Record<string, Handler>;
  /** Takes down a command; `line` holds no passwords. */
  logCommand(session: Session, name: string, line: string): void;
  logLogin(session: Session, user: string, ok: boolean): void;
};

/** Performs one command and returns its tagged answer ("OK done"); throws a Refusal to answer with that. */
export type Handler = (session: Session, command: Command) => string | Promise<string>;

const FLUSH_AT = 256 * 1024;
const LARGEST_BEFORE_LOGIN = 64 * 1024;
const LARGEST = 256 * 1024 * 1024;
/** During these the numbers must not move (RFC 3501 section 7.4.1). */
const KEEP_NUMBERS = new Set(["FETCH", "STORE", "SEARCH"]);

export class Session {
  readonly id: number;
  readonly server: SessionServer;
  readonly reader = new ByteReader();
  readonly enabled = new Set<string>();
  /** Resolves when the connection has ended. */
  readonly closed: Promise<void>;
  account: Account | undefined;
  folder: Folder | undefined;
  readOnly = false;
  /** The messages of the selected folder as this client numbers them. */
  view: Message[] = [];
  secure: boolean;
  idling = false;
  #socket: Socket;
  #over = false;
  #close: () => void = () => undefined;
  #out: Buffer[] = [];
  #outSize = 0;
  #cutAfter = Infinity;
  #unwatch: () => void = () => undefined;
  #added: Message[] = [];
  readonly #removed = new Set<Message>();
  readonly #reflagged = new Set<Message>();

  constructor(id: number, socket: Socket, server: SessionServer) {
    this.id = id;
    this.server = server;
    this.secure = socket instanceof TLSSocket;
    this.#socket = socket;
    this.closed = new Promise((resolve) => {
      this.#close = resolve;
    });
    this.#listen(socket);
  }

  /** Greets and answers commands until the connection ends. */
  async run(): Promise<void> {
    await this.#greet();
    while (!this.#over) {
      try {
        const command = await readCommand(this.reader, {
          proceed: () => void this.send("+ go ahead\r\n").flush(),
          largest: () => (this.account ? LARGEST : LARGEST_BEFORE_LOGIN),
        });
        if (!command) break;
        await this.#answer(command);
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        this.send(`${error.message}\r\n`);
      }
      await this.flush();
    }
    this.end();
  }

  /** Adds to the output; `flush` sends it. */
  send(text: string | Buffer): this {
    const bytes = typeof text === "string" ? Buffer.from(text) : text;
    this.#out.push(bytes);
    this.#outSize += bytes.length;
    return this;
  }

  /** Whether there is so much output that it should be flushed before more is made. */
  get full(): boolean {
    return this.#outSize > FLUSH_AT;
  }

  /** Sends what was added, and waits until the client takes it. */
  async flush(): Promise<void> {
    const bytes = this.#out.length === 1 ? this.#out[0] : Buffer.concat(this.#out);
    this.#out = [];
    this.#outSize = 0;
    if (!bytes || bytes.length === 0 || this.#over) return;
    const allowed = bytes.subarray(0, this.#cutAfter);
    this.#cutAfter -= allowed.length;
    const taken = allowed.length === 0 || this.#socket.write(allowed);
    if (this.#cutAfter === 0) return this.end();
    if (!taken) await Promise.race([new Promise((resolve) => this.#socket.once("drain", resolve)), this.closed]);
  }

  /** Ends the connection after what was sent. */
  end(): void {
    this.#socket.end();
    this.#over = true;
  }

  /** Ends the connection at once. */
  destroy(): void {
    this.#socket.destroy();
    this.#over = true;
  }

  /** Says goodbye, also in the middle of IDLE. */
  async bye(text: string): Promise<void> {
    await this.send(`* BYE ${text}\r\n`).flush();
    this.end();
  }

  capabilityNames(): string {
    const at = { secure: this.secure, loggedIn: this.account !== undefined, tls: this.server.keyPair !== undefined };
    return capabilityNames(this.server.capabilities, at);
  }

  /** Starts TLS on this connection; what the client sent before counts for nothing. */
  async startTls(reply: string): Promise<void> {
    if (!this.server.keyPair) throw new Refusal("BAD No TLS here");
    this.#socket.removeAllListeners("data");
    this.#socket.pause();
    this.reader.discard();
    await this.send(reply + (this.server.faults.sendAfterStartTls ?? "")).flush();
    const secured = new TLSSocket(this.#socket, { isServer: true, ...this.server.keyPair });
    this.#socket = secured;
    this.#listen(secured);
    this.secure = true;
  }

  /** Selects a folder, or none. */
  select(folder: Folder | undefined, readOnly = false): void {
    this.#unwatch();
    this.#added = [];
    this.#removed.clear();
    this.#reflagged.clear();
    this.folder = folder;
    this.readOnly = readOnly;
    this.view = folder ? [...folder.messages] : [];
    this.#unwatch = folder?.watch((change) => this.#changed(change)) ?? ((): void => undefined);
  }

  /** The number this client knows the message by, 0 if it does not know it. */
  numberOf(message: Message): number {
    const index = positionOf(this.view, message.uid);
    return this.view[index] === message ? index + 1 : 0;
  }

  /** Tells the client what has changed in its folder; without `numbersMayMove` removals wait. */
  tellChanges(numbersMayMove = true): void {
    const { deaf } = this.server.faults;
    if (deaf === true || (deaf === "idle" && this.idling)) return;
    if (numbersMayMove) this.#tellRemoved();
    for (const message of this.#reflagged) {
      const number = this.numberOf(message);
      const modseq = this.enabled.has("CONDSTORE") ? ` MODSEQ (${message.modseq})` : "";
      const flags = [...message.flags].join(" ");
      if (number > 0) this.send(`* ${number} FETCH (UID ${message.uid} FLAGS (${flags})${modseq})\r\n`);
    }
    this.#reflagged.clear();
    if (this.#added.length === 0) return;
    for (const message of this.#added) this.view.push(message);
    this.#added = [];
    this.send(`* ${this.view.length} EXISTS\r\n`);
  }

  #tellRemoved(): void {
    const gone: number[] = [];
    for (const message of this.#removed) gone.push(this.numberOf(message));
    gone.sort((one, other) => other - one);
    for (const number of gone) if (number > 0) this.send(`* ${number} EXPUNGE\r\n`);
    if (gone.length > 0) this.view = this.view.filter((message) => !this.#removed.has(message));
    this.#removed.clear();
  }

  #changed(change: FolderChange): void {
    if (change.kind === "gone") return void this.bye(change.why);
    if (change.kind === "added") for (const message of change.messages) this.#added.push(message);
    else if (change.kind === "flags") {
      if (change.by !== this) this.#reflagged.add(change.message);
    } else {
      const gone = new Set(change.messages);
      this.#added = this.#added.filter((message) => !gone.has(message));
      for (const message of gone) if (this.numberOf(message) > 0) this.#removed.add(message);
    }
    if (!this.idling) return;
    this.tellChanges();
    void this.flush();
  }

  #listen(socket: Socket): void {
    socket.on("data", (chunk) => this.reader.push(chunk));
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      // After STARTTLS only the end of the TLS socket counts; it follows when the bare one ends.
      this.#over = true;
      this.#unwatch();
      this.reader.end();
      this.#close();
    });
    socket.on("end", () => this.reader.end());
    socket.setNoDelay(true);
  }

  async #greet(): Promise<void> {
    const { faults, capabilities } = this.server;
    if (faults.dropAfterConnect) return this.destroy();
    const list = capabilities.silent ? "" : `[CAPABILITY ${this.capabilityNames()}] `;
    await this.send(`* ${faults.greeting ?? `OK ${list}in-process IMAP server ready`}\r\n`).flush();
    if (faults.greeting?.startsWith("BYE")) this.end();
  }

  async #answer(command: Command): Promise<void> {
    const { tag, name } = command;
    const secret = name === "LOGIN" || name === "AUTHENTICATE";
    this.server.logCommand(this, name, secret ? `${tag} ${name} ***` : command.line);
    const fault = await this.server.faults.take(name, this.account?.name);
    if (fault && (await this.#misbehaves(tag, fault))) return;
    const reply = await this.#perform(command);
    const numbersMayMove = !KEEP_NUMBERS.has(name);
    if (reply !== "") {
      if (this.folder) this.tellChanges(numbersMayMove);
      this.send(`${tag} ${reply}\r\n`);
    }
  }

  async #perform(command: Command): Promise<string> {
    const handler = this.server.commands[command.name];
    if (!handler) return `BAD Unknown command ${command.name}`;
    try {
      return await handler(this, command);
    } catch (error) {
      if (error instanceof Refusal) return error.message;
      throw error;
    }
  }

  // True when the fault has answered, so that the command is not performed.
  async #misbehaves(tag: string, fault: Fault): Promise<boolean> {
    if (fault.untagged !== undefined) this.send(`${fault.untagged}\r\n`);
    if (fault.cutAfter !== undefined) this.#cutAfter = fault.cutAfter;
    if (fault.bye !== undefined) await this.bye(fault.bye);
    else if (fault.drop) this.destroy();
    else if (fault.hang) await this.flush().then(() => this.closed);
    else if (fault.reply !== undefined) this.send(`${tag} ${fault.reply}\r\n`);
    else return false;
    return true;
  }
}
