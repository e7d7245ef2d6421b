/** How a stored token looks: `elt_`, its id, and 32 random bytes. Nobody can guess one, so its SHA-256 is enough to store. */
import { createHash, randomBytes } from "node:crypto";

const ID_LENGTH = 16;
const TOKEN = /^elt_([0-9a-f]{16})_[A-Za-z0-9_-]{43}$/;

/** A new token with its id, and the hash to store. */
export function generateToken(): { id: string; token: string; hash: string } {
  const id = randomBytes(ID_LENGTH / 2).toString("hex");
  const token = `elt_${id}_${randomBytes(32).toString("base64url")}`;
  return { id, token, hash: digest(token).toString("hex") };
}

/** The id in a token of this form; undefined for any other text. */
export function tokenIdOf(text: string): string | undefined {
  return TOKEN.exec(text)?.[1];
}

/** The SHA-256 of a text. Texts are compared by it, so that the time of a comparison shows nothing about them. */
export function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
