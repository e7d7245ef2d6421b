/** Finds the known name a misspelt one was meant to be. */

/** The known name within two edits (one for names up to four letters) or in another case; undefined when none is near. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  const wanted = name.slice(0, 64).toLowerCase().replace(/[-_]/g, "");
  const ranked = known
    .map((candidate) => ({ candidate, edits: edits(wanted, candidate.toLowerCase()) }))
    .toSorted((a, b) => a.edits - b.edits);
  const best = ranked[0];
  if (!best) return undefined;
  return best.edits <= (Math.min(wanted.length, best.candidate.length) <= 4 ? 1 : 2) ? best.candidate : undefined;
}

/** Levenshtein distance: insertions, deletions and replacements, one row at a time. */
function edits(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (row[j - 1] ?? 0) + (b[j - 1] === letter ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
