/**
 * What the SMTP library knows about a connection, but does not have in its types. All of it is read here, so that an
 * update of the library is checked in one place.
 */
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import type SMTPConnection from "nodemailer/lib/smtp-connection";

/** The extensions of EHLO that the library knows, such as SMTPUTF8. */
export function getExtensions(connection: SMTPConnection): string[] {
  return readTexts(connection, "_supportedExtensions");
}

/** The SASL mechanisms of EHLO, in capitals. Empty if the server offers no login. Old servers write `AUTH=`. */
export function getMechanisms(connection: SMTPConnection): string[] {
  const lines = readTexts(connection, "_ehloLines").flatMap((line) => /^AUTH[\s=]+(.*)/i.exec(line)?.[1] ?? []);
  return [...new Set(lines.flatMap((line) => line.toUpperCase().split(/[\s=]+/)).filter((name) => name !== ""))];
}

/** The largest message in bytes that the server accepts (RFC 1870). 0 if it does not say. */
export function getMaxBytes(connection: SMTPConnection): number {
  const value: unknown = Reflect.get(connection, "_maxAllowedSize");
  return typeof value === "number" ? value : 0;
}

export function getSocket(connection: SMTPConnection): Socket | undefined {
  const { _socket: socket } = connection;
  return socket || undefined;
}

/** The TLS socket. Undefined while the connection is not encrypted. */
export function getTlsSocket(connection: SMTPConnection): TLSSocket | undefined {
  const socket = getSocket(connection);
  return socket instanceof TLSSocket ? socket : undefined;
}

/** Makes the connection wait for each reply before its next command, so that a lost connection loses no reply. */
export function withoutPipelining(connection: SMTPConnection): void {
  const list: unknown = Reflect.get(connection, "_supportedExtensions");
  if (!Array.isArray(list)) return;
  Reflect.set(
    connection,
    "_supportedExtensions",
    list.filter((name) => name !== "PIPELINING"),
  );
}

/**
 * Adds SMTPUTF8 to MAIL FROM until the returned function is called. The library adds it only for addresses of the
 * envelope, but RFC 6531 section 3.4 requires it for an international header too.
 */
export function requestSmtpUtf8(connection: SMTPConnection): () => void {
  const sendCommand: unknown = Reflect.get(connection, "_sendCommand");
  if (typeof sendCommand !== "function") return () => undefined;
  Reflect.set(connection, "_sendCommand", (line: string, logged?: string) => {
    const utf8 = line.startsWith("MAIL FROM:") && !line.includes(" SMTPUTF8") ? `${line} SMTPUTF8` : line;
    Reflect.apply(sendCommand, connection, [utf8, logged]);
  });
  return () => void Reflect.deleteProperty(connection, "_sendCommand");
}

/** The recipient whose reply is missing. Without pipelining it is the last one that was sent. */
export function getPendingRecipient(connection: SMTPConnection): string | undefined {
  return readTexts(connection, "_recipientQueue")[0];
}

/**
 * A list of texts on an object of the library: on a connection, or on the envelope, where the library keeps its state.
 */
export function readTexts(holder: object, name: string): string[] {
  const list: unknown = Reflect.get(holder, name);
  return Array.isArray(list) ? list.filter((one) => typeof one === "string") : [];
}
