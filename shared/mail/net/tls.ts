/** TLS for mail connections of any protocol: the server's name or its pinned certificate is proven before a single byte is trusted. */
import { createHash } from "node:crypto";
import { isIP, type Socket } from "node:net";
import { checkServerIdentity, connect, type ConnectionOptions, type PeerCertificate, type TLSSocket } from "node:tls";
import { Problem } from "../../contract/problem.ts";
import { within } from "../../time.ts";
import { problemOf } from "../problems.ts";

/** Whom to trust: the name, under the system's authorities or `ca`, or the certificate of this `fingerprint` alone. */
export type Trust = { host: string; ca?: string | undefined; fingerprint?: string | undefined };

/**
 * Begins TLS on a connected socket and calls `onSecure` once the server has proven itself: by a certificate for the mailbox's
 * host under the system's authorities or the mailbox's own `ca`, or by its `fingerprint` alone. Else the returned socket fails.
 */
export function startTls(socket: Socket, trust: Trust, onSecure: () => void): TLSSocket {
  const tls = connect({ socket, ...trusting(trust) });
  tls.once("secureConnect", () => {
    const problem = pinProblem(tls, trust);
    if (problem) tls.destroy(problem);
    else onSecure();
  });
  return tls;
}

/** TLS options that hold a server to this trust, all but a `fingerprint`, which `pinProblem` looks at after the handshake. */
export function trusting(trust: Trust): ConnectionOptions {
  const host = trust.host.replace(/^\[(.*)\]$/, "$1").replace(/\.$/, "");
  return {
    host,
    // An IP address is no server name (RFC 6066 section 3); its certificate is checked by the address.
    ...(isIP(host) ? {} : { servername: host }),
    ...(trust.ca === undefined ? {} : { ca: [trust.ca] }),
    rejectUnauthorized: trust.fingerprint === undefined,
    checkServerIdentity: (_: string, certificate: PeerCertificate) => checkServerIdentity(host, certificate),
  };
}

/** As `startTls`, as a promise with a deadline; the socket is destroyed when it fails. */
export async function secured(socket: Socket, trust: Trust, ms: number, signal: AbortSignal): Promise<TLSSocket> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const tls = startTls(socket, trust, resolve);
  // The listener stays: Bun reports a second error on a socket whose handshake failed.
  tls.on("error", reject);
  try {
    await within(ms, "The TLS handshake", promise, signal);
    return tls;
  } catch (error) {
    tls.destroy();
    socket.destroy();
    if (signal.aborted) throw error;
    throw problemOf(error, { step: "connect" });
  }
}

/** Why the server's certificate is not the pinned one; undefined when it is, or when none is pinned. */
export function pinProblem(socket: TLSSocket, { fingerprint }: Trust): Problem | undefined {
  if (fingerprint === undefined) return undefined;
  const found = createHash("sha256").update(socket.getPeerCertificate().raw).digest();
  const wanted = fingerprint.slice("sha256/".length);
  const bytes = /^[0-9a-fA-F:]{64,95}$/.test(wanted)
    ? Buffer.from(wanted.replaceAll(":", ""), "hex")
    : Buffer.from(wanted, "base64");
  if (found.equals(bytes)) return undefined;
  const evidence = `sha256/${found.toString("hex")}`;
  return new Problem("tls", "The server showed another certificate than the pinned one", { evidence });
}
