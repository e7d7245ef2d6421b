/**
 * Numbers of the Creatio dialect that both sides of it need. The names are certain, the numbers follow from their order and are a
 * guess: a recording of a real CRM (LISTENERS_RECORD) shows them, and this is the place to correct them.
 */

/** EmailImportance. */
export const IMPORTANCE = { none: 0, low: 1, normal: 2, high: 3 } as const;

/** MailSecureOption. */
export const SECURE_OPTION = { none: 0, ssl: 1, startTls: 2 } as const;
