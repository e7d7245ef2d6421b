/** NTLMv2 for HTTP ([MS-NLMP], [MS-NTHT]): the two messages that a client says; older versions of NTLM are refused. */
import { createHash } from "node:crypto";
import ntlm from "@ewsjs/ntlm-client";
import { Problem } from "../../../contract/problem.ts";

const UNICODE = 0x1;
/** Unicode, the server's name asked for, NTLM, always sign, extended session security (which NTLMv2 needs). */
const FLAGS = UNICODE | 0x4 | 0x200 | 0x8000 | 0x80000;
/** What the library's buffer for the last message holds, less its fixed part, both responses and some room. */
const MOST_BYTES = 1024 - 64 - 24 - 48 - 16;

/** The value of `Authorization` that asks the server for its challenge. */
export function ntlmGreeting(): string {
  const message = Buffer.alloc(32);
  message.write("NTLMSSP\0", 0, "ascii");
  message.writeUInt32LE(1, 8);
  message.writeUInt32LE(FLAGS, 12);
  return `NTLM ${message.toString("base64")}`;
}

/** The challenge among the values of `WWW-Authenticate`; undefined when there is none. */
export function ntlmChallenge(offered: string | undefined): string | undefined {
  return /\bNTLM ([A-Za-z0-9+/=]{16,})/.exec(offered ?? "")?.[1];
}

/**
 * The value of `Authorization` that answers a challenge. The user is DOMAIN\user, user@domain, or a bare name of the server's own domain.
 * With the `certificate` of the connection (DER) the answer is of use on that connection alone, which servers may demand (Windows
 * Extended Protection).
 */
export function ntlmAnswer(
  challenge: string,
  { user, pass }: { user: string; pass: string },
  certificate: Uint8Array | undefined,
): string {
  const heard = decoded(challenge, certificate);
  const [domain, name] = parted(user);
  const used = (heard.targetInfo?.buffer?.length ?? 0) + 2 * ((domain ?? heard.targetName).length + name.length);
  if (used > MOST_BYTES)
    throw new Problem("auth_method", "The server's NTLM challenge is too long", { retry: "never" });
  return ntlm.createType3Message(heard, name, pass, "", domain);
}

function decoded(challenge: string, certificate: Uint8Array | undefined) {
  let heard;
  try {
    heard = ntlm.decodeType2Message(`NTLM ${challenge}`);
  } catch (error) {
    throw new Problem("protocol", "The server's NTLM challenge cannot be read", { cause: error });
  }
  if (heard.version !== 2 || !heard.targetInfo?.buffer)
    throw new Problem("auth_method", "The server allows only versions of NTLM that are not safe", { retry: "never" });
  const told = heard.targetInfo.buffer;
  const buffer = certificate ? bound(told, certificate) : told;
  return { ...heard, targetInfo: { buffer }, encoding: heard.flags & UNICODE ? ("ucs2" as const) : ("ascii" as const) };
}

/** [MS-NLMP] section 2.2.2.1: the end of a list of pairs, and the pair that holds the hash of a channel binding. */
const END = 0;
const CHANNEL_BINDINGS = 10;

/** What the server told of itself, with the connection's binding added. */
function bound(told: Buffer, certificate: Uint8Array): Buffer {
  const pairs: Buffer[] = [];
  for (let at = 0; at + 4 <= told.length;) {
    const id = told.readUInt16LE(at);
    const next = at + 4 + told.readUInt16LE(at + 2);
    if (id === END) break;
    if (id !== CHANNEL_BINDINGS) pairs.push(told.subarray(at, next));
    at = next;
  }
  const head = Buffer.from([CHANNEL_BINDINGS, 0, 16, 0]);
  return Buffer.concat([...pairs, head, channelBinding(certificate), Buffer.alloc(4)]);
}

/** The MD5 of a channel binding of kind tls-server-end-point (RFC 5929 section 4.1) without addresses (RFC 2744 section 3.11). */
function channelBinding(certificate: Uint8Array): Buffer {
  const hash = createHash(signedWith(certificate)).update(certificate).digest();
  const application = Buffer.concat([Buffer.from("tls-server-end-point:"), hash]);
  const frame = Buffer.alloc(20);
  frame.writeUInt32LE(application.length, 16);
  return createHash("md5").update(frame).update(application).digest();
}

/** Object identifiers of signatures with larger hashes: RSA, then ECDSA. All others count as SHA-256, as RFC 5929 has it for old ones. */
const SIGNATURES = [
  ["sha384", "06092a864886f70d01010c", "06082a8648ce3d040303"],
  ["sha512", "06092a864886f70d01010d", "06082a8648ce3d040304"],
] as const;

function signedWith(certificate: Uint8Array): string {
  const bytes = Buffer.from(certificate);
  const found = SIGNATURES.find(([, rsa, ecdsa]) =>
    [rsa, ecdsa].some((oid) => bytes.includes(Buffer.from(oid, "hex"))),
  );
  return found?.[0] ?? "sha256";
}

function parted(user: string): [domain: string | undefined, name: string] {
  const at = user.indexOf("\\");
  if (at > 0) return [user.slice(0, at), user.slice(at + 1)];
  return user.includes("@") ? ["", user] : [undefined, user];
}
