/** What a server sends beyond every measure. */
import { Problem } from "../../contract/problem.ts";

/** `what` completes "The server sent ...". */
export function excessProblem(what: string): Problem {
  return new Problem("excess", `The server sent ${what}, which is more than the service accepts`);
}

/** A size for people: "64 KB", "4 MB". */
export function sizeText(bytes: number): string {
  const [KB, MB] = [1024, 1024 * 1024];
  return bytes >= MB ? `${Math.round(bytes / MB)} MB` : `${Math.round(bytes / KB)} KB`;
}

const MIB = 1024 * 1024;
/** Servers estimate, and some announce nothing. */
const CONTENT = { min: 32 * MIB, max: 256 * MIB };
export const MAX_MESSAGE_BYTES = CONTENT.max;

/** How many bytes a message may have that the server announced with so many. */
export function maxContentBytes(announced: number): number {
  return Math.min(CONTENT.max + MIB, Math.max(CONTENT.min, 2 * announced + MIB));
}

/** How large an answer may be that brings such a message in base64, with something around it. */
export function maxBase64Bytes(announced: number): number {
  return 2 * maxContentBytes(announced);
}
