/**
 * Client assertions: a client proves its identity to a token server with a certificate instead of a secret, by a
 * statement signed with its key (RFC 7523).
 */
import { createHash, createPrivateKey, type KeyObject, randomUUID, X509Certificate } from "node:crypto";
import { type ClientAuth, modifyAssertion, PrivateKeyJwt } from "oauth4webapi";
import { Problem } from "../../contract/problem.ts";
import type { Secret } from "../../contract/secret.ts";
import { clock } from "../../time.ts";

const LIFETIME_S = 300;
/** Allows for differences between clocks. */
const CLOCK_SKEW_S = 60;
const MIN_RSA_BITS = 2048;

/**
 * Signs each request with a JWT that names the client. It is valid for five minutes and only for this token server. It
 * names the certificate by its thumbprints, as Microsoft's servers want. Throws `token` (retry never) when the
 * certificate has expired, or when the key does not belong to it or is unreadable.
 */
export async function certificateAuth(
  client: { certificate: string; privateKey: Secret; signsBy?: "PS256" | undefined },
  now = clock.now(),
): Promise<ClientAuth> {
  const certificate = parsePem("certificate", () => new X509Certificate(client.certificate));
  const key = parsePem("private key", () => createPrivateKey(client.privateKey.reveal()));
  if (Date.parse(certificate.validTo) < now)
    throw toAssertionProblem(
      `The certificate for OAuth2 expired on ${new Date(certificate.validTo).toISOString().slice(0, 10)}`,
    );
  if (!certificate.checkPrivateKey(key))
    throw toAssertionProblem("The private key for OAuth2 does not belong to its certificate");
  const thumbprint = (hash: string) => createHash(hash).update(certificate.raw).digest("base64url");
  const pkcs8 = key.export({ type: "pkcs8", format: "der" });
  const signingKey = await crypto.subtle.importKey("pkcs8", pkcs8, getAlgorithm(key, client.signsBy), false, ["sign"]);
  return PrivateKeyJwt(signingKey, {
    [modifyAssertion](header, claims) {
      Object.assign(header, { typ: "JWT", x5t: thumbprint("sha1"), "x5t#S256": thumbprint("sha256") });
      const seconds = Math.floor(now / 1000);
      // Microsoft asks for a GUID.
      Object.assign(claims, { jti: randomUUID(), nbf: seconds - CLOCK_SKEW_S, exp: seconds + LIFETIME_S });
    },
  });
}

function getAlgorithm(
  key: KeyObject,
  signsBy: "PS256" | undefined,
): { name: string; hash?: string; namedCurve?: string } {
  const { modulusLength = 0, namedCurve } = key.asymmetricKeyDetails ?? {};
  if (key.asymmetricKeyType === "rsa" && modulusLength >= MIN_RSA_BITS)
    return { name: signsBy === "PS256" ? "RSA-PSS" : "RSASSA-PKCS1-v1_5", hash: "SHA-256" };
  if (key.asymmetricKeyType === "ec" && namedCurve === "prime256v1") return { name: "ECDSA", namedCurve: "P-256" };
  throw toAssertionProblem(`The private key for OAuth2 must be RSA of at least ${MIN_RSA_BITS} bits or EC P-256`);
}

/** The original error may hold parts of the key, so it is left out. */
function parsePem<T>(what: string, read: () => T): T {
  try {
    return read();
  } catch {
    throw toAssertionProblem(`The ${what} for OAuth2 cannot be read as PEM`);
  }
}

function toAssertionProblem(cause: string): Problem {
  return new Problem("token", cause, { retry: "never" });
}
