/** Message bytes as they are kept: compressed by zstd, large ones outside of this thread. */
import { promisify } from "node:util";
import { constants, zstdCompress, zstdCompressSync, zstdDecompress, zstdDecompressSync } from "node:zlib";

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);
/** The quickest level: text shrinks to about a third, and what is incompressible costs next to nothing. */
const QUICK = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };
/** Packed in a tenth of a millisecond; handing it to a thread would take longer. */
const SMALL_BYTES = 16 * 1024;

export async function packed(raw: Uint8Array): Promise<Buffer> {
  return raw.byteLength <= SMALL_BYTES ? zstdCompressSync(raw, QUICK) : compress(raw, QUICK);
}

export async function unpacked(bytes: Uint8Array): Promise<Buffer> {
  return bytes.byteLength <= SMALL_BYTES ? zstdDecompressSync(bytes) : decompress(bytes);
}
