/**
 * TLS for mail connections of every protocol. The server's name or its pinned certificate is checked before a single
 * byte is trusted.
 */
import { createHash } from "node:crypto";
import { isIP, type Socket } from "node:net";
import { checkServerIdentity, connect, type ConnectionOptions, type PeerCertificate, type TLSSocket } from "node:tls";
import { Problem } from "../../contract/problem.ts";
import { quoteWords } from "../../evidence/evidence.ts";
import { withTimeout } from "../../time.ts";
import { toProblem } from "../problems.ts";

/**
 * What to trust: the host name under the system's authorities or `ca`, or only the certificate with this `fingerprint`.
 */
export type TlsTrust = { host: string; ca?: string | undefined; fingerprint?: string | undefined };

/**
 * Begins TLS on a connected socket and calls `onSecure` once the server's certificate was checked: for the mailbox's
 * host under the system's authorities or the mailbox's own `ca`, or only by its `fingerprint`. Otherwise the returned
 * socket fails.
 */
export function startTls(socket: Socket, trust: TlsTrust, onSecure: () => void): TLSSocket {
  const tls = connect({ socket, ...getTlsOptions(trust) });
  tls.once("secureConnect", () => {
    const problem = checkPinnedCertificate(tls, trust);
    if (problem) tls.destroy(problem);
    else onSecure();
  });
  return tls;
}

/** TLS options for this trust, except a `fingerprint`, which `checkPinnedCertificate` checks after the handshake. */
export function getTlsOptions(trust: TlsTrust): ConnectionOptions {
  const host = trust.host.replace(/^\[(.*)\]$/, "$1").replace(/\.$/, "");
  return {
    host,
    // An IP address is no server name (RFC 6066 section 3). Its certificate is checked by the address.
    ...(isIP(host) ? {} : { servername: host }),
    ...(trust.ca === undefined ? {} : { ca: [trust.ca] }),
    rejectUnauthorized: trust.fingerprint === undefined,
    checkServerIdentity: (_: string, certificate: PeerCertificate) => checkServerIdentity(host, certificate),
  };
}

/** As `startTls`, but a promise with a deadline. It destroys the socket when it fails. */
export async function upgradeToTls(
  socket: Socket,
  trust: TlsTrust,
  ms: number,
  signal: AbortSignal,
): Promise<TLSSocket> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const tls = startTls(socket, trust, resolve);
  // The listener stays, because Bun reports a second error on a socket whose handshake failed.
  tls.on("error", reject);
  try {
    await withTimeout(ms, "The TLS handshake", promise, signal);
    return tls;
  } catch (error) {
    tls.destroy();
    socket.destroy();
    if (signal.aborted) throw error;
    throw toProblem(error, { step: "connect" });
  }
}

/** Why the server's certificate is not the pinned one. Undefined when it is, or when none is pinned. */
export function checkPinnedCertificate(socket: TLSSocket, { fingerprint }: TlsTrust): Problem | undefined {
  if (fingerprint === undefined) return undefined;
  const actual = createHash("sha256").update(socket.getPeerCertificate().raw).digest();
  const expected = fingerprint.slice("sha256/".length);
  const expectedDigest = /^[0-9a-fA-F:]{64,95}$/.test(expected)
    ? Buffer.from(expected.replaceAll(":", ""), "hex")
    : Buffer.from(expected, "base64");
  if (actual.equals(expectedDigest)) return undefined;
  const evidence = quoteWords(`sha256/${actual.toString("hex")}`, { secrets: [] });
  return new Problem("tls", "The server's certificate is not the pinned one", { evidence, fix: CHANGED_PIN_FIX });
}

const CHANGED_PIN_FIX =
  "If the server's operator renewed the certificate, set `fingerprint` to the one in the evidence; otherwise somebody may be in between.";
