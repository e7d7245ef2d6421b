/** Checks a client assertion (RFC 7523) as Entra does: by the uploaded certificate that its header names. */
import { constants, createHash, createPublicKey, verify, X509Certificate } from "node:crypto";

export type AssertionFault = "malformed" | "unknown certificate" | "signature" | "audience" | "time" | "client";

type Claims = { iss?: string; sub?: string; aud?: string; exp?: number; nbf?: number; jti?: string };

/** Undefined when the assertion is good. */
export function faultOf(
  assertion: string,
  expected: { clientId: string; audiences: string[]; certificates: string[] },
): AssertionFault | undefined {
  const [head = "", body = "", signature = ""] = assertion.split(".");
  const header = parsed<{ alg?: string; x5t?: string; "x5t#S256"?: string }>(head);
  const claims = parsed<Claims>(body);
  if (!header || !claims || signature === "") return "malformed";
  const certificate = expected.certificates
    .map((pem) => new X509Certificate(pem))
    .find(({ raw }) =>
      header["x5t#S256"] === undefined
        ? header.x5t === createHash("sha1").update(raw).digest("base64url")
        : header["x5t#S256"] === createHash("sha256").update(raw).digest("base64url"),
    );
  if (!certificate) return "unknown certificate";
  if (!isSigned(header.alg, certificate, `${head}.${body}`, Buffer.from(signature, "base64url"))) return "signature";
  if (claims.iss !== expected.clientId || claims.sub !== expected.clientId || !claims.jti) return "client";
  if (!expected.audiences.includes(claims.aud ?? "")) return "audience";
  const now = Date.now() / 1000;
  // Entra allows five minutes between the clocks.
  if (!claims.exp || claims.exp < now - 300 || (claims.nbf ?? 0) > now + 300) return "time";
  return undefined;
}

function parsed<Shape>(part: string): Shape | undefined {
  try {
    return JSON.parse(Buffer.from(part, "base64url").toString()) as Shape;
  } catch {
    return undefined;
  }
}

function isSigned(alg: string | undefined, { publicKey }: X509Certificate, text: string, signature: Buffer): boolean {
  const key = createPublicKey(publicKey.export({ type: "spki", format: "pem" }));
  const data = Buffer.from(text);
  if (alg === "RS256") return verify("sha256", data, key, signature);
  if (alg !== "PS256") return false;
  const { RSA_PKCS1_PSS_PADDING, RSA_PSS_SALTLEN_DIGEST } = constants;
  return verify("sha256", data, { key, padding: RSA_PKCS1_PSS_PADDING, saltLength: RSA_PSS_SALTLEN_DIGEST }, signature);
}
