/** AES-256-GCM (NIST SP 800-38D) over bytes. The form is: iv (12 bytes, random), ciphertext, tag (16 bytes). */
import { type CipherKey, createCipheriv, createDecipheriv, randomBytes } from "node:crypto";

const ALGORITHM = "aes-256-gcm";
export const IV_BYTES = 12;
export const TAG_BYTES = 16;

export function encrypt(key: CipherKey, plain: Uint8Array, aad: string): Buffer {
  const { iv, cipher } = startEncrypting(key, aad);
  return Buffer.concat([iv, cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
}

/** Throws when the key or `aad` is another one, or when any bit was changed. */
export function decrypt(key: CipherKey, sealed: Uint8Array, aad: string): Buffer {
  const decipher = startDecrypting(key, sealed.subarray(0, IV_BYTES), aad);
  decipher.setAuthTag(sealed.subarray(-TAG_BYTES));
  return Buffer.concat([decipher.update(sealed.subarray(IV_BYTES, -TAG_BYTES)), decipher.final()]);
}

export function startEncrypting(key: CipherKey, aad: string) {
  const iv = randomBytes(IV_BYTES);
  return { iv, cipher: createCipheriv(ALGORITHM, key, iv).setAAD(Buffer.from(aad)) };
}

export function startDecrypting(key: CipherKey, iv: Uint8Array, aad: string) {
  return createDecipheriv(ALGORITHM, key, iv, { authTagLength: TAG_BYTES }).setAAD(Buffer.from(aad));
}
