/** Finds the known name that a misspelt one probably means. */

/**
 * The known name within two edits (one for names of up to four letters) or in another case; undefined when none is
 * near.
 */
export function nearestName(name: string, candidates: readonly string[]): string | undefined {
  const normalized = normalize(name.slice(0, 64));
  const ranked = candidates
    .map((candidate) => ({ candidate, edits: editDistance(normalized, normalize(candidate)) }))
    .toSorted((a, b) => a.edits - b.edits);
  const best = ranked[0];
  if (!best) return undefined;
  return best.edits <= (Math.min(normalized.length, best.candidate.length) <= 4 ? 1 : 2) ? best.candidate : undefined;
}

function normalize(name: string): string {
  return name.toLowerCase().replace(/[-_]/g, "");
}

/** The number of insertions, deletions, replacements and swaps of neighbours between two words, computed row by row. */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped = a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? (before[j - 2] ?? i) + 1 : Infinity;
      next.push(Math.min(replaced, swapped, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    before = row;
    row = next;
  }
  return row[b.length] ?? 0;
}
