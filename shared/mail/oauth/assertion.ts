/** How a client proves itself to a token server by a certificate instead of a secret: a statement signed with its key (RFC 7523). */
import { createHash, createPrivateKey, type KeyObject, randomUUID, sign, X509Certificate } from "node:crypto";
import { Problem } from "../../contract/problem.ts";
import type { Secret } from "../../contract/secret.ts";

export const ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

const LIFE_S = 300;
/** Clocks differ. */
const EARLY_S = 60;

/**
 * A JWT that says who the client is, good for five minutes and for this token server alone. The certificate is named by its thumbprints,
 * as Microsoft's servers want it. Throws `token`, retry never, when the certificate has expired, or the key is another's or unreadable.
 */
export function clientAssertion(
  client: { tokenUrl: string; clientId: string; certificate: string; privateKey: Secret },
  now = Date.now(),
): string {
  const { tokenUrl, clientId } = client;
  const certificate = readable("certificate", () => new X509Certificate(client.certificate));
  const key = readable("private key", () => createPrivateKey(client.privateKey.reveal()));
  if (Date.parse(certificate.validTo) < now)
    throw refused(`The certificate for OAuth2 expired on ${new Date(certificate.validTo).toISOString().slice(0, 10)}`);
  if (!certificate.checkPrivateKey(key)) throw refused("The private key for OAuth2 does not belong to its certificate");
  const thumbprint = (hash: string) => createHash(hash).update(certificate.raw).digest("base64url");
  const header = { typ: "JWT", alg: algorithmOf(key), x5t: thumbprint("sha1"), "x5t#S256": thumbprint("sha256") };
  const seconds = Math.floor(now / 1000);
  const claims = {
    aud: tokenUrl,
    iss: clientId,
    sub: clientId,
    jti: randomUUID(),
    iat: seconds,
    nbf: seconds - EARLY_S,
    exp: seconds + LIFE_S,
  };
  const said = `${encoded(header)}.${encoded(claims)}`;
  const signature = sign("sha256", Buffer.from(said), { key, dsaEncoding: "ieee-p1363" });
  return `${said}.${signature.toString("base64url")}`;
}

function algorithmOf(key: KeyObject): "RS256" | "ES256" {
  if (key.asymmetricKeyType === "rsa") return "RS256";
  if (key.asymmetricKeyType === "ec" && key.asymmetricKeyDetails?.namedCurve === "prime256v1") return "ES256";
  throw refused("The private key for OAuth2 must be RSA or EC P-256");
}

function encoded(part: object): string {
  return Buffer.from(JSON.stringify(part)).toString("base64url");
}

/** What went wrong inside may hold parts of the key, so it is left out. */
function readable<T>(what: string, read: () => T): T {
  try {
    return read();
  } catch {
    throw refused(`The ${what} for OAuth2 cannot be read as PEM`);
  }
}

function refused(cause: string): Problem {
  return new Problem("token", cause, { retry: "never" });
}
