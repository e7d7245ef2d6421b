/** The versions of the EWS schema that the service uses. */

/** Versions of the schema, the preferred one first. A server that does not know a version says so. */
export const VERSIONS = ["Exchange2013", "Exchange2010_SP2"] as const;

export type Version = (typeof VERSIONS)[number];
