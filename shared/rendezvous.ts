/**
 * Rendezvous hashing: each of several candidates has a weight for a key, and the highest weight wins. All processes
 * compute the same winner without talking to each other. A candidate that comes or goes moves only its own keys.
 */

/** The weight of a candidate for a key, both as their `hashOf`. */
export function weightOf(key: number, candidate: number): number {
  return mixHash(key ^ candidate);
}

/** FNV-1a, mixed: fast, and the same on every runtime. */
export function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let n = 0; n < text.length; n++) hash = Math.imul(hash ^ text.charCodeAt(n), 0x01000193);
  return mixHash(hash);
}

/** The finalizer of MurmurHash3: every bit of the result depends on every bit of the input. */
function mixHash(hash: number): number {
  let h = hash;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
