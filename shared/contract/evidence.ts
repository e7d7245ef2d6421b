/** The words of the other side that a Problem may have. */

declare const checked: unique symbol;

/** Words of the other side without secrets, in one printable line. `quoteWords` in shared/evidence makes them. */
export type Evidence = string & { readonly [checked]: true };
