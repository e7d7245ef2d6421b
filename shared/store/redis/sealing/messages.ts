/** Encrypted message bytes in Redis: a header of fixed length with the encrypted data key, then the bytes. */
import { compressBytes, openBytes, sealBytes, sealCompressed, type SealedBytes } from "../../sealed-bytes.ts";
import type { MailboxSealing } from "../../mailbox-sealing.ts";
import type { Vault } from "../../vault.ts";
import type { RedisConnection } from "../connection/client.ts";
import { redisScript } from "../connection/script.ts";
import { numberOf, textOrNull } from "../connection/reply.ts";

/** `raw:` are messages that wait for their endpoint or are parked, `outbox:raw:` are outgoing messages. */
export type MessageKind = "raw:" | "outbox:raw:";

/** Where a message is stored: under `prefix`, the prefix of its mailbox, as `<kind><id>`. */
export type MessagePlace = { prefix: string; kind: MessageKind; id: string };

/** The header is this mark, the data key, and spaces. Compressed bytes never begin with the mark. */
const MARK = "key:2:";
/** The mark, a key id of at most 32 characters, a colon, and a data key of 80 characters. */
const HEADER_BYTES = 120;
/** How long a command may take: more for many bytes, at 4 MB/s. */
export const transferTimeoutMs = (bytes: number) => 5_000 + bytes / 4_000;

/** The bytes to store. As long as nodes of 0.1 are there, they are not encrypted. */
export async function sealMessage(
  place: MessagePlace,
  raw: Uint8Array,
  { vault, sealing }: { vault: Vault; sealing: MailboxSealing },
): Promise<Buffer> {
  return sealing.sealsMessages ? join(await sealBytes(raw, vault, aadOf(place))) : compressBytes(raw);
}

/** The message as it was before `sealMessage`; undefined when there is none. Throws as `openBytes`. */
export async function readMessage(
  redis: RedisConnection,
  place: MessagePlace,
  by: Vault,
): Promise<Uint8Array | undefined> {
  const stored = await readStored(redis, place);
  if (stored === undefined) return undefined;
  const dataKey = dataKeyOf(stored.subarray(0, HEADER_BYTES).toString("latin1"));
  const bytes = dataKey === null ? stored : stored.subarray(HEADER_BYTES);
  return openBytes({ dataKey, bytes }, by, aadOf(place));
}

/** Replaces the header of a message, unless somebody stored the message anew. */
const REPLACE_HEADER = redisScript(`
  local key = KEYS[1] .. ARGV[1]
  if redis.call('GETRANGE', key, 0, ${HEADER_BYTES - 1}) ~= ARGV[2] then return 0 end
  redis.call('SETRANGE', key, 0, ARGV[3])
  return 1`);

/** Encrypts the data key again. Returns whether the message was under another key than the first. Throws as `openDataKey`. */
export async function resealDataKey(redis: RedisConnection, place: MessagePlace, by: Vault): Promise<boolean> {
  const header = textOrNull(await redis.send("getrange", [keyOf(place), 0, HEADER_BYTES - 1])) ?? "";
  const dataKey = dataKeyOf(header);
  if (dataKey === null || dataKey.startsWith(`${by.sealingKeyId}:`)) return false;
  const replacement = headerOf(by.resealDataKey(dataKey));
  await redis.run(REPLACE_HEADER, place.prefix, [place.kind + place.id, header, replacement]);
  return true;
}

/** Encrypts a message that an older version stored without encryption. Returns whether it was one. */
export async function sealOldMessage(redis: RedisConnection, place: MessagePlace, by: Vault): Promise<boolean> {
  const header = textOrNull(await redis.send("getrange", [keyOf(place), 0, MARK.length - 1])) ?? "";
  if (header === "" || header === MARK) return false;
  const stored = await readStored(redis, place);
  if (stored === undefined || dataKeyOf(stored.subarray(0, HEADER_BYTES).toString("latin1")) !== null) return false;
  const sealed = join(await sealCompressed([stored], by, aadOf(place)));
  // Only nodes of older versions write such messages. They write the same message again, or delete it.
  await redis.send("set", [keyOf(place), sealed, "xx", "keepttl"], transferTimeoutMs(sealed.length));
  return true;
}

async function readStored(redis: RedisConnection, place: MessagePlace): Promise<Buffer | undefined> {
  const key = keyOf(place);
  const length = numberOf(await redis.send("strlen", [key]));
  const found = await redis.sendForBytes("get", [key], transferTimeoutMs(length));
  return found instanceof Uint8Array ? Buffer.from(found.buffer, found.byteOffset, found.byteLength) : undefined;
}

function join({ dataKey, pieces }: SealedBytes): Buffer {
  return Buffer.concat([Buffer.from(headerOf(dataKey)), ...pieces]);
}

function headerOf(dataKey: string): string {
  return (MARK + dataKey).padEnd(HEADER_BYTES);
}

/** Null for a message without the header: an older version stored it without encryption. */
function dataKeyOf(header: string): string | null {
  return header.startsWith(MARK) ? header.slice(MARK.length).trimEnd() : null;
}

function keyOf({ prefix, kind, id }: MessagePlace): string {
  return prefix + kind + id;
}

function aadOf({ kind, id }: MessagePlace): string {
  return `${kind}${id}`;
}
