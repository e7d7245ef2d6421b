/** Removes what no text may contain, whatever it was decoded from. */

/** Text that every program can store: without NUL, and with lone surrogates replaced. */
export function sanitizeText(value: string): string {
  return (value.includes("\0") ? value.replaceAll("\0", "") : value).toWellFormed();
}
