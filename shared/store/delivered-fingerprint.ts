/** The fingerprint of a delivered message, as one store exports it and another imports it. */

/** `print` is hex; `at` is in milliseconds since 1970. */
export type DeliveredFingerprint = { print: string; folder: string; epoch: string; uid: number; at: number };
