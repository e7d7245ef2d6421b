/** NTLMv2 for HTTP ([MS-NLMP], [MS-NTHT]): the two messages of a client. Older versions of NTLM are refused. */
import { createHash } from "node:crypto";
import ntlm from "@ewsjs/ntlm-client";
import { Problem } from "../../../contract/problem.ts";

const UNICODE = 0x1;
/** Unicode, request target name, NTLM, always sign, extended session security (which NTLMv2 needs). */
const FLAGS = UNICODE | 0x4 | 0x200 | 0x8000 | 0x80000;
/** The size of the library's buffer for the last message, less its fixed part, both responses and some room. */
const MAX_BYTES = 1024 - 64 - 24 - 48 - 16;

/** The value of `Authorization` that asks the server for its challenge. */
export function createNtlmNegotiate(): string {
  const message = Buffer.alloc(32);
  message.write("NTLMSSP\0", 0, "ascii");
  message.writeUInt32LE(1, 8);
  message.writeUInt32LE(FLAGS, 12);
  return `NTLM ${message.toString("base64")}`;
}

/** The challenge among the values of `WWW-Authenticate`; undefined when there is none. */
export function findNtlmChallenge(offered: string | undefined): string | undefined {
  return /\bNTLM ([A-Za-z0-9+/=]{16,})/.exec(offered ?? "")?.[1];
}

/**
 * The value of `Authorization` that answers a challenge. The user is DOMAIN\user, user@domain, or a bare name of the
 * server's own domain. With the `certificate` of the connection (DER) the answer is valid only on that connection,
 * which servers may require (Windows Extended Protection).
 */
export function createNtlmAuthenticate(
  challenge: string,
  { user, pass }: { user: string; pass: string },
  certificate: Uint8Array | undefined,
): string {
  const type2 = decodeChallenge(challenge, certificate);
  const [domain, name] = splitUser(user);
  const used = (type2.targetInfo?.buffer?.length ?? 0) + 2 * ((domain ?? type2.targetName).length + name.length);
  if (used > MAX_BYTES) throw new Problem("auth_method", "The server's NTLM challenge is too long", { retry: "never" });
  return ntlm.createType3Message(type2, name, pass, "", domain);
}

function decodeChallenge(challenge: string, certificate: Uint8Array | undefined) {
  let type2;
  try {
    type2 = ntlm.decodeType2Message(`NTLM ${challenge}`);
  } catch (error) {
    throw new Problem("protocol", "The server's NTLM challenge cannot be read", { cause: error });
  }
  if (type2.version !== 2 || !type2.targetInfo?.buffer)
    throw new Problem("auth_method", "The server allows only old versions of NTLM, which are not safe", {
      retry: "never",
    });
  const targetInfo = type2.targetInfo.buffer;
  const buffer = certificate ? addChannelBinding(targetInfo, certificate) : targetInfo;
  return { ...type2, targetInfo: { buffer }, encoding: type2.flags & UNICODE ? ("ucs2" as const) : ("ascii" as const) };
}

/** [MS-NLMP] section 2.2.2.1: the end of a list of pairs, and the pair that holds the hash of a channel binding. */
const AV_EOL = 0;
const AV_CHANNEL_BINDINGS = 10;

/** The server's target information, with the channel binding of the connection added. */
function addChannelBinding(targetInfo: Buffer, certificate: Uint8Array): Buffer {
  const pairs: Buffer[] = [];
  for (let at = 0; at + 4 <= targetInfo.length;) {
    const id = targetInfo.readUInt16LE(at);
    const next = at + 4 + targetInfo.readUInt16LE(at + 2);
    if (id === AV_EOL) break;
    if (id !== AV_CHANNEL_BINDINGS) pairs.push(targetInfo.subarray(at, next));
    at = next;
  }
  const head = Buffer.from([AV_CHANNEL_BINDINGS, 0, 16, 0]);
  return Buffer.concat([...pairs, head, channelBinding(certificate), Buffer.alloc(4)]);
}

/** The MD5 of a channel binding of kind tls-server-end-point (RFC 5929 section 4.1) without addresses (RFC 2744 section 3.11). */
function channelBinding(certificate: Uint8Array): Buffer {
  const hash = createHash(signatureHash(certificate)).update(certificate).digest();
  const application = Buffer.concat([Buffer.from("tls-server-end-point:"), hash]);
  const frame = Buffer.alloc(20);
  frame.writeUInt32LE(application.length, 16);
  return createHash("md5").update(frame).update(application).digest();
}

/**
 * Object identifiers of signatures with larger hashes: RSA, then ECDSA. All others count as SHA-256, as RFC 5929 says
 * for older ones.
 */
const SIGNATURES = [
  ["sha384", "06092a864886f70d01010c", "06082a8648ce3d040303"],
  ["sha512", "06092a864886f70d01010d", "06082a8648ce3d040304"],
] as const;

function signatureHash(certificate: Uint8Array): string {
  const bytes = Buffer.from(certificate);
  const found = SIGNATURES.find(([, rsa, ecdsa]) =>
    [rsa, ecdsa].some((oid) => bytes.includes(Buffer.from(oid, "hex"))),
  );
  return found?.[0] ?? "sha256";
}

function splitUser(user: string): [domain: string | undefined, name: string] {
  const at = user.indexOf("\\");
  if (at > 0) return [user.slice(0, at), user.slice(at + 1)];
  return user.includes("@") ? ["", user] : [undefined, user];
}
