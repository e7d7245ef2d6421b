/** What is known of the server at the other end of a connection, without the secrets that it was given. */
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import type { ServerFacts, TlsFacts } from "../../contract/learned.ts";
import { hideGiven, quoteWords } from "../../evidence/evidence.ts";

const MAX_SERVER = 200;
/** Of a list without end the beginning is known. */
const MAX_CAPABILITIES = 100;
const CAPABILITY = /^[\w.+=/-]{1,60}$/;

/** The facts of one connection. What the server says of itself may repeat the login. */
export function toServerFacts(
  { words, capabilities, socket }: { words: string; capabilities: Iterable<string>; socket: Socket },
  secrets: readonly string[],
): ServerFacts {
  const shown = quoteWords(words, { secrets }, MAX_SERVER);
  const names = [...capabilities].filter((name) => CAPABILITY.test(name)).slice(0, MAX_CAPABILITIES);
  return {
    server: shown === "" ? null : shown,
    capabilities: names.length === 0 ? [] : hideGiven(names.join(" "), { secrets }).split(" "),
    tls: readTls(socket),
  };
}

/** Null without TLS. */
export function readTls(socket: Socket): TlsFacts | null {
  if (!(socket instanceof TLSSocket)) return null;
  const endsAt = new Date(socket.getPeerCertificate().valid_to);
  const isKnown = Number.isFinite(endsAt.getTime());
  return {
    version: socket.getProtocol() ?? "unknown",
    certificateEndsAt: isKnown ? endsAt.toISOString() : null,
  };
}
