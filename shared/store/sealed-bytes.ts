/**
 * How message bytes are stored: compressed with zstd, then encrypted with a data key of their own. The encrypted data key
 * is stored beside them, so that a change of keys writes only the data key again.
 */
import { setImmediate } from "node:timers/promises";
import { promisify } from "node:util";
import {
  constants,
  createZstdCompress,
  zstdCompress,
  zstdCompressSync,
  zstdDecompress,
  zstdDecompressSync,
} from "node:zlib";
import { Problem } from "../contract/problem.ts";
import { IV_BYTES, startDecrypting, startEncrypting, TAG_BYTES } from "./cipher.ts";
import type { Vault } from "./vault.ts";

/** `dataKey` is the encrypted data key with the key id, see vault.ts. The pieces are the stored bytes, in order. */
export type SealedBytes = { dataKey: string; pieces: Buffer[] };

const zstdCompressAsync = promisify(zstdCompress);
const zstdDecompressAsync = promisify(zstdDecompress);
/** The fastest level. Text shrinks to about a third, and incompressible data costs almost nothing. */
const FASTEST_LEVEL = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };
/** Compressing this much takes a tenth of a millisecond. Handing it to a thread takes longer. */
const SMALL_BYTES = 16 * 1024;
/** Decrypting this much takes about a millisecond. Other work gets its turn after it. */
const TURN_BYTES = 1024 * 1024;

/** Bytes as 0.1 stored them: compressed only. */
export function compressBytes(raw: Uint8Array): Promise<Buffer> {
  return zstdCompressAsync(raw, FASTEST_LEVEL);
}

/** Compresses and encrypts piece by piece. Only the same `aad` decrypts it. */
export function sealBytes(raw: Uint8Array, by: Vault, aad: string): Promise<SealedBytes> {
  if (raw.byteLength <= SMALL_BYTES) return sealCompressed([zstdCompressSync(raw, FASTEST_LEVEL)], by, aad);
  const compress = createZstdCompress(FASTEST_LEVEL);
  compress.end(raw);
  return sealCompressed(compress, by, aad);
}

/** As `sealBytes`, for the pieces of what is compressed already. */
export async function sealCompressed(
  compressed: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  by: Vault,
  aad: string,
): Promise<SealedBytes> {
  const { key, sealed } = by.createDataKey();
  const { iv, cipher } = startEncrypting(key, aad);
  const pieces: Buffer[] = [iv];
  for await (const piece of compressed) pieces.push(cipher.update(piece));
  pieces.push(cipher.final(), cipher.getAuthTag());
  return { dataKey: sealed, pieces };
}

/**
 * The reverse of `sealBytes`. It overwrites `bytes`, so that they are not in memory twice. Without a data key the bytes are
 * those of a version that did not encrypt them. Throws `config` (retry never) when the key is missing, and when the bytes are
 * not what was stored under this `aad`.
 */
export async function openBytes(
  { dataKey, bytes }: { dataKey: string | null; bytes: Uint8Array },
  by: Vault,
  aad: string,
): Promise<Buffer> {
  const compressed = dataKey === null ? bytes : await decryptInPlace(by.openDataKey(dataKey), bytes, aad);
  return compressed.byteLength <= SMALL_BYTES ? zstdDecompressSync(compressed) : zstdDecompressAsync(compressed);
}

async function decryptInPlace(key: Buffer, bytes: Uint8Array, aad: string): Promise<Uint8Array> {
  const content = bytes.subarray(IV_BYTES, -TAG_BYTES);
  try {
    const decipher = startDecrypting(key, bytes.subarray(0, IV_BYTES), aad);
    decipher.setAuthTag(bytes.subarray(-TAG_BYTES));
    for (let from = 0; from < content.length; from += TURN_BYTES) {
      if (from > 0) await setImmediate();
      const piece = content.subarray(from, from + TURN_BYTES);
      piece.set(decipher.update(piece));
    }
    decipher.final();
    return content;
  } catch (cause) {
    const why = "A stored message cannot be decrypted: it was changed, or it belongs to another record";
    throw new Problem("config", why, { retry: "never", cause });
  }
}
