/**
 * The server's half of NTLM ([MS-NLMP]): a challenge, and the proof of a password under it. Only NTLMv2 is accepted, and the hash is
 * computed here from the password by code of its own, so that a client's mistake cannot be made on both sides.
 */
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";

const SIGNATURE = Buffer.from("NTLMSSP\0", "latin1");
/** Unicode, target name, NTLM, always sign, target is a domain, extended session security, target info, version, 128 bit, 56 bit. */
const FLAGS = 0x1 | 0x4 | 0x200 | 0x8000 | 0x10000 | 0x80000 | 0x800000 | 0x2000000 | 0x20000000;

/** 1 for a client's greeting, 3 for its answer; undefined for what is no NTLM message. */
export function messageType(message: Buffer): number | undefined {
  return message.length >= 12 && message.subarray(0, 8).equals(SIGNATURE) ? message.readUInt32LE(8) : undefined;
}

/** The second message, and the challenge in it. */
export function challengeMessage(domain: string): { message: Buffer; challenge: Buffer } {
  const challenge = randomBytes(8);
  const name = wide(domain);
  const info = targetInfo(domain);
  const head = Buffer.alloc(56);
  SIGNATURE.copy(head);
  head.writeUInt32LE(2, 8);
  describe(head, 12, name.length, 56);
  head.writeUInt32LE(FLAGS, 20);
  challenge.copy(head, 24);
  describe(head, 40, info.length, 56 + name.length);
  Buffer.from("0a0063450000000f", "hex").copy(head, 48);
  return { message: Buffer.concat([head, name, info]), challenge };
}

function describe(head: Buffer, at: number, length: number, offset: number): void {
  head.writeUInt16LE(length, at);
  head.writeUInt16LE(length, at + 2);
  head.writeUInt32LE(offset, at + 4);
}

function wide(text: string): Buffer {
  return Buffer.from(text, "utf16le");
}

function targetInfo(domain: string): Buffer {
  const now = Buffer.alloc(8);
  now.writeBigUInt64LE((BigInt(Date.now()) + 11_644_473_600_000n) * 10_000n);
  const dns = `${domain.toLowerCase()}.example`;
  const pairs: [number, Buffer][] = [
    [2, wide(domain)],
    [1, wide("EX01")],
    [4, wide(dns)],
    [3, wide(`ex01.${dns}`)],
    [5, wide(dns)],
    [7, now],
    [0, Buffer.alloc(0)],
  ];
  return Buffer.concat(
    pairs.map(([id, value]) => {
      const head = Buffer.alloc(4);
      head.writeUInt16LE(id, 0);
      head.writeUInt16LE(value.length, 2);
      return Buffer.concat([head, value]);
    }),
  );
}

/** What the third message says. */
export type NtlmAnswer = { user: string; domain: string; response: Buffer };

export function readAnswer(message: Buffer): NtlmAnswer {
  const field = (at: number): Buffer => {
    const offset = message.readUInt32LE(at + 4);
    return message.subarray(offset, offset + message.readUInt16LE(at));
  };
  const unicode = (message.readUInt32LE(60) & 1) === 1;
  const text = (at: number) => field(at).toString(unicode ? "utf16le" : "latin1");
  return { domain: text(28), user: text(36), response: field(20) };
}

/** Whether the answer proves this password under the challenge; older responses than NTLMv2 never do. */
export function proves({ user, domain, response }: NtlmAnswer, challenge: Buffer, password: string): boolean {
  if (response.length < 48) return false;
  const [proof, blob] = [response.subarray(0, 16), response.subarray(16)];
  const key = hmac(md4(Buffer.from(password, "utf16le")), Buffer.from(user.toUpperCase() + domain, "utf16le"));
  return timingSafeEqual(proof, hmac(key, Buffer.concat([challenge, blob])));
}

function hmac(key: Buffer, content: Buffer): Buffer {
  return createHmac("md5", key).update(content).digest();
}

const ROUNDS = [
  {
    mix: (x: number, y: number, z: number) => (x & y) | (~x & z),
    plus: 0,
    shifts: [3, 7, 11, 19],
    order: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
  },
  {
    mix: (x: number, y: number, z: number) => (x & y) | (x & z) | (y & z),
    plus: 0x5a827999,
    shifts: [3, 5, 9, 13],
    order: [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15],
  },
  {
    mix: (x: number, y: number, z: number) => x ^ y ^ z,
    plus: 0x6ed9eba1,
    shifts: [3, 9, 11, 15],
    order: [0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15],
  },
];

/** MD4 (RFC 1320), which OpenSSL 3 no longer has. */
export function md4(content: Buffer): Buffer {
  const padded = Buffer.alloc(((content.length + 8) >> 6) * 64 + 64);
  content.copy(padded);
  padded[content.length] = 0x80;
  padded.writeBigUInt64LE(BigInt(content.length) * 8n, padded.length - 8);
  let state: [number, number, number, number] = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476];
  for (let at = 0; at < padded.length; at += 64) state = md4Block(padded.subarray(at, at + 64), state);
  const digest = Buffer.alloc(16);
  for (const [index, word] of state.entries()) digest.writeInt32LE(word | 0, index * 4);
  return digest;
}

function md4Block(block: Buffer, before: [number, number, number, number]): [number, number, number, number] {
  let [a, b, c, d] = before;
  for (const { mix, plus, shifts, order } of ROUNDS) {
    for (const [step, word] of order.entries()) {
      const sum = (a + mix(b, c, d) + block.readInt32LE(word * 4) + plus) | 0;
      const shift = shifts[step % 4] ?? 0;
      [a, b, c, d] = [d, (sum << shift) | (sum >>> (32 - shift)), b, c];
    }
  }
  return [(before[0] + a) | 0, (before[1] + b) | 0, (before[2] + c) | 0, (before[3] + d) | 0];
}
