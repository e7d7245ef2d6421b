/** When certificates expire. */
import { X509Certificate } from "node:crypto";
import type { Application } from "../shared/contract/application.ts";
import type { Token } from "../shared/contract/token.ts";

/** When a certificate in PEM expires. Null if it cannot be read. */
export function expiryOf(pem: string): Date | null {
  try {
    return new Date(new X509Certificate(pem).validTo);
  } catch {
    // Whoever uses the certificate reports that it cannot be read.
    return null;
  }
}

/** Only Microsoft takes a certificate in place of a client secret. */
export function certificateOf(application: Application): string | undefined {
  return application.provider === "microsoft" ? application.certificate : undefined;
}

/** When the first of these tokens ends, in seconds since 1970. Null if none has an end. */
export function firstTokenEndSeconds(tokens: readonly Pick<Token, "expiresAt">[]): number | null {
  const ends = tokens.flatMap(({ expiresAt }) => (expiresAt === null ? [] : Date.parse(expiresAt)));
  return ends.length === 0 ? null : Math.min(...ends) / 1000;
}

/** When the first certificate of these applications expires, in seconds since 1970. Null if none has a known end. */
export function firstExpirySeconds(applications: readonly Application[]): number | null {
  const ends = applications.flatMap((one) => {
    const certificate = certificateOf(one);
    return (certificate === undefined ? null : expiryOf(certificate))?.getTime() ?? [];
  });
  return ends.length === 0 ? null : Math.min(...ends) / 1000;
}
