/**
 * Numbers of the Creatio dialect that both of its sides need. The names are certain. The numbers follow from the order
 * of the names and are a guess. A recording of a real CRM (CRM_RECORD) shows the right ones; correct them here.
 */

/** EmailImportance. */
export const IMPORTANCE = { none: 0, low: 1, normal: 2, high: 3 } as const;

/** MailSecureOption. */
export const SECURE_OPTION = { none: 0, ssl: 1, startTls: 2 } as const;
