/**
 * What every mail server in this room offers, so that one test runs against all of them: Dovecot, GreenMail and our
 * own in-process server.
 */

/** A mail server on loopback ports; all its members act on the server itself, past any client under test. */
export type MailServer = {
  /** For test names: "Dovecot 2.3.19", "GreenMail 2.1.0", "in process". */
  name: string;
  /** Always 127.0.0.1; the certificate also names localhost. */
  host: string;
  /** Plain, with STARTTLS where the server can. */
  imapPort: number;
  /** TLS from the first byte; 0 if the server was started without. */
  imapsPort: number;
  /** The PEM certificate to trust, undefined if the server has no TLS. */
  ca: string | undefined;
  addUser(name: string, password: string): Promise<void>;
  setPassword(name: string, password: string): Promise<void>;
  /** Puts one message into a folder, INBOX or an existing one, and resolves with its UID once a client could see it. */
  append(user: string, folder: string, raw: Buffer | string): Promise<number>;
  /** Puts many, much faster than one by one; resolves with their UIDs. */
  appendMany(user: string, folder: string, raws: (Buffer | string)[]): Promise<number[]>;
  createFolder(user: string, folder: string): Promise<void>;
  expunge(user: string, folder: string, uid: number): Promise<void>;
  /** The flags of every message by UID; \Recent is left out. */
  flags(user: string, folder: string): Promise<Map<number, string[]>>;
  count(user: string, folder: string): Promise<number>;
  /** Gives the folder a new UIDVALIDITY with the same messages, and resolves with it. */
  changeUidValidity(user: string, folder: string): Promise<number>;
  /** Ends every client connection. */
  disconnectAll(): Promise<void>;
  stop(): Promise<void>;
  /** Dies at once, without a word to its clients. */
  kill(): Promise<void>;
  /** Starts again after `stop` or `kill`, on the same ports; what it keeps is said at each server. */
  start(): Promise<void>;
};
