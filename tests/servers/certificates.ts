/**
 * A private certificate authority for tests, made at run time: nothing is stored and nothing expires in the repository.
 * It signs one good certificate for this machine's loopback names, one that has expired and one for a wrong name.
 */
// oxlint-disable-next-line import/no-unassigned-import -- @peculiar/x509 does not load without it
import "reflect-metadata";
import { randomBytes, webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";

/** A certificate with its private key, both PEM, ready for the options of `tls` and `https`. */
export type KeyPair = { cert: string; key: string };

/** What `makeCertificates` makes: `ca` goes to the client, one of the three pairs to the server. */
export type Certificates = { ca: string; server: KeyPair; expired: KeyPair; wrongName: KeyPair };

const DAY = 24 * 60 * 60 * 1000;
const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

type Authority = { name: string; keys: webcrypto.CryptoKeyPair };

/**
 * Makes a new authority and its three certificates, in about 20 ms. The good ones name localhost, 127.0.0.1 and ::1;
 * `wrongName` names only mail.wrong.example; `expired` ended yesterday.
 */
export async function makeCertificates(): Promise<Certificates> {
  const keys = await newKeys();
  const authority: Authority = { name: `CN=Test authority ${randomBytes(4).toString("hex")}`, keys };
  const now = Date.now();
  const root = await x509.X509CertificateGenerator.createSelfSigned({
    name: authority.name,
    serialNumber: serial(),
    notBefore: new Date(now - 10 * DAY),
    notAfter: new Date(now + 30 * DAY),
    signingAlgorithm: ALGORITHM,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  const here: x509.JsonGeneralNames = [
    { type: "dns", value: "localhost" },
    { type: "ip", value: "127.0.0.1" },
    { type: "ip", value: "::1" },
  ];
  const elsewhere: x509.JsonGeneralNames = [{ type: "dns", value: "mail.wrong.example" }];
  const [server, expired, wrongName] = await Promise.all([
    sign(authority, here, now + 20 * DAY),
    sign(authority, here, now - DAY),
    sign(authority, elsewhere, now + 20 * DAY),
  ]);
  return { ca: root.toString("pem"), server, expired, wrongName };
}

async function sign(authority: Authority, names: x509.JsonGeneralNames, notAfter: number): Promise<KeyPair> {
  const keys = await newKeys();
  const cert = await x509.X509CertificateGenerator.create({
    subject: `CN=${names[0]?.value ?? "localhost"}`,
    issuer: authority.name,
    serialNumber: serial(),
    notBefore: new Date(notAfter - 25 * DAY),
    notAfter: new Date(notAfter),
    signingAlgorithm: ALGORITHM,
    publicKey: keys.publicKey,
    signingKey: authority.keys.privateKey,
    extensions: [
      new x509.SubjectAlternativeNameExtension(names),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      await x509.AuthorityKeyIdentifierExtension.create(authority.keys.publicKey),
    ],
  });
  return { cert: cert.toString("pem"), key: await pem(keys.privateKey) };
}

/** A certificate of a client that signs for itself, with its key, both PEM. */
export async function clientCertificate(
  algorithm: "RS256" | "ES256",
  notAfter = new Date(Date.now() + DAY),
): Promise<{ certificate: string; privateKey: string }> {
  const rsa = {
    name: "RSASSA-PKCS1-v1_5",
    hash: "SHA-256",
    publicExponent: new Uint8Array([1, 0, 1]),
    modulusLength: 2048,
  };
  const signingAlgorithm = algorithm === "RS256" ? rsa : ALGORITHM;
  const keys = await webcrypto.subtle.generateKey(signingAlgorithm, true, ["sign", "verify"]);
  const notBefore = new Date(notAfter.getTime() - 10 * DAY);
  const by = { name: "CN=client", serialNumber: serial(), notBefore, notAfter, signingAlgorithm, keys };
  const certificate = await x509.X509CertificateGenerator.createSelfSigned(by);
  return { certificate: certificate.toString("pem"), privateKey: await pem(keys.privateKey) };
}

// A serial number is a positive integer: the leading 00 keeps the top bit from making it negative (RFC 5280 4.1.2.2).
function serial(): string {
  return `00${randomBytes(8).toString("hex")}`;
}

async function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
}

async function pem(key: webcrypto.CryptoKey): Promise<string> {
  const base64 = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", key)).toString("base64");
  const lines = base64.match(/.{1,64}/g) ?? [];
  return `-----BEGIN PRIVATE KEY-----\n${lines.join("\n")}\n-----END PRIVATE KEY-----\n`;
}
