/** Letters in wrappers: S/MIME, PGP and winmail.dat. Those made by OpenSSL are real, under a certificate made for this file; the rest is built byte by byte. */
import { deflateSync } from "node:zlib";

/** Made by `openssl cms -sign -nodetach -stream`: a text and a file, in strings of indefinite length. */
export const signedByOpenssl = [
  "MIAGCSqGSIb3DQEHAqCAMIACAQExDTALBglghkgBZQMEAgEwgAYJKoZIhvcNAQcBoIAkgASB0UNvbnRlbnQtVHlwZTogbXVsdGlwYXJ0L21peGVkOyBib3Vu",
  "ZGFyeT0iaSINCg0KLS1pDQpDb250ZW50LVR5cGU6IHRleHQvcGxhaW47IGNoYXJzZXQ9dXRmLTgNCg0KU2lnbmVkIGJ5IE9wZW5TU0wuDQotLWkNCkNvbnRl",
  "bnQtVHlwZTogdGV4dC9jc3YNCkNvbnRlbnQtRGlzcG9zaXRpb246IGF0dGFjaG1lbnQ7IGZpbGVuYW1lPSJhLmNzdiINCg0KMTsyDQotLWktLQ0KAAAAAAAA",
  "oIIBdzCCAXMwggEZoAMCAQICFDfCGXxfzkYYKSMuC8jYYBRHNzi5MAoGCCqGSM49BAMCMA8xDTALBgNVBAMMBEphbmUwHhcNMjYxMTI5MTk1NTIxWhcNMzYx",
  "MTI2MTk1NTIxWjAPMQ0wCwYDVQQDDARKYW5lMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE0aJz9xLgtumPKiLaZkv6YpbFqRFCZ9XmgNoSDEgZVvDByqmo",
  "TnDlNS4Bj32+Bc5RPmCT02MG90hcd/u3/4Q1OaNTMFEwHQYDVR0OBBYEFCd2Q8p4xgePJRE6ZTMn2gMXFEYOMB8GA1UdIwQYMBaAFCd2Q8p4xgePJRE6ZTMn",
  "2gMXFEYOMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIhAI3PuJdnYTmTwhKO8HVeTPpICWUydz2OWuBpMdyS3K+xAiBMzoS7VTHxJ5SIwC9N",
  "SOiuZ09T+T8LGnIzjkwplkz23DGBkDCBjQIBATAnMA8xDTALBgNVBAMMBEphbmUCFDfCGXxfzkYYKSMuC8jYYBRHNzi5MAsGCWCGSAFlAwQCATAKBggqhkjO",
  "PQQDAgRGMEQCIAn3zQk07YhKEQz0cnxwU+DZ5zfaPdnT+CFG34T4GPmlAiA9mCWPPXYo/x00e2X5z5f+ORodA4gw73xbuLchurajeAAAAAAAAA==",
].join("");
/** Made by `openssl cms -encrypt`. */
export const encryptedByOpenssl = [
  "MIIB9AYJKoZIhvcNAQcDoIIB5TCCAeECAQIxgcqhgccCAQOgUaFPMAkGByqGSM49AgEDQgAEL9PYH+9EBgkTCyasqLVtSZ6A3Dagx7gSNBV8kg+n2DyXWFhk",
  "fZgZRvxxhk9iKqMUHpkoEb+h6FTCSClWbDaPyzAYBgkrgQUQhkg/AAIwCwYJYIZIAWUDBAEtMFUwUzAnMA8xDTALBgNVBAMMBEphbmUCFDfCGXxfzkYYKSMu",
  "C8jYYBRHNzi5BChmr4wS7KYUXisnczkLnYJrGIp1KKAK3lX8KhG1xBM3Tay495rM3WbBMIIBDQYJKoZIhvcNAQcBMB0GCWCGSAFlAwQBKgQQgnq4jsnqGNlS",
  "oZeO1qc574CB4IYLb9RZ1q55KTU+KkZJQlLgMzGB7LI6S8ZP3B9ge1tTUYph7Fa6UcIFd318Le0s//Wmr0hZ949ORf0v4KbMXjWgD/B0S6Lq33lML4c1Dry0",
  "Y6Em3koc/FZYKSfXjT0D8lSAuosme/7w2Cw+9Y6FRKjGBPxjkkiCDE77REkd99DQXZjcxIcgF7BZyCOEtq3MpraUNK95kP+CfJn64RnrBy2+WJL0afOSd7nh",
  "d1Tywmgk5aNiHgIzgfgYkYp3mG8aY5ZGs1QEuSANG4FeVhdeitgc8wpUZ4d4yOqgA0F2x1+z",
].join("");
/** Made by `openssl crl2pkcs7 -nocrl`: a certificate alone. */
export const certificateByOpenssl = [
  "MIIBogYJKoZIhvcNAQcCoIIBkzCCAY8CAQExADALBgkqhkiG9w0BBwGgggF3MIIBczCCARmgAwIBAgIUN8IZfF/ORhgpIy4LyNhgFEc3OLkwCgYIKoZIzj0E",
  "AwIwDzENMAsGA1UEAwwESmFuZTAeFw0yNjExMjkxOTU1MjFaFw0zNjExMjYxOTU1MjFaMA8xDTALBgNVBAMMBEphbmUwWTATBgcqhkjOPQIBBggqhkjOPQMB",
  "BwNCAATRonP3EuC26Y8qItpmS/pilsWpEUJn1eaA2hIMSBlW8MHKqahOcOU1LgGPfb4FzlE+YJPTYwb3SFx3+7f/hDU5o1MwUTAdBgNVHQ4EFgQUJ3ZDynjG",
  "B48lETplMyfaAxcURg4wHwYDVR0jBBgwFoAUJ3ZDynjGB48lETplMyfaAxcURg4wDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEAjc+4l2dh",
  "OZPCEo7wdV5M+kgJZTJ3PY5a4Gkx3JLcr7ECIEzOhLtVMfEnlIjAL01I6K5nT1P5PwsacjOOTCmWTPbcMQA=",
].join("");

const OID = {
  data: "2a864886f70d010701",
  signed: "2a864886f70d010702",
  compressed: "2a864886f70d0109100109",
  zlib: "2a864886f70d0109100308",
};

/** One element of ASN.1. */
export function element(tag: number, ...content: Buffer[]): Buffer {
  const body = Buffer.concat(content);
  if (body.length < 0x80) return Buffer.concat([Buffer.from([tag, body.length]), body]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(body.length);
  return Buffer.concat([Buffer.from([tag, 0x84]), length, body]);
}

const SEQUENCE = 0x30;
const OCTETS = 0x04;
const CONTEXT = 0xa0;
const oid = (hex: string) => element(0x06, Buffer.from(hex, "hex"));
const version = element(0x02, Buffer.from([1]));
const octets = (content: Buffer) => element(OCTETS, content);
/** An octet string of indefinite length, in pieces. */
export const pieces = (...content: Buffer[]) =>
  Buffer.concat([Buffer.from([0x24, 0x80]), ...content, Buffer.from([0, 0])]);

/** Signed data around `content`, an octet string; without a signature, which nobody checks. */
export function signedData(content: Buffer): Buffer {
  const inner = element(SEQUENCE, oid(OID.data), element(CONTEXT, content));
  return element(
    SEQUENCE,
    oid(OID.signed),
    element(CONTEXT, element(SEQUENCE, version, element(0x31), inner, element(0x31))),
  );
}

/** A signed entity. */
export const signedEntity = (entity: string | Buffer) => signedData(octets(Buffer.from(entity)));

/** A compressed entity (RFC 3274). */
export function compressedEntity(entity: string | Buffer): Buffer {
  const inner = element(SEQUENCE, oid(OID.data), element(CONTEXT, octets(deflateSync(entity))));
  return element(
    SEQUENCE,
    oid(OID.compressed),
    element(CONTEXT, element(SEQUENCE, version, element(SEQUENCE, oid(OID.zlib)), inner)),
  );
}

/** An attribute of TNEF: of the message (1) or an attachment (2). */
export function attribute(level: 1 | 2, id: number, data: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head[0] = level;
  head.writeUInt32LE(id, 1);
  head.writeUInt32LE(data.length, 5);
  return Buffer.concat([head, data, Buffer.alloc(2)]);
}

type Value = string | number | Buffer;

/** A block of MAPI properties: strings as Unicode, numbers, and bytes (`[id, bytes, type]` for other types of bytes). */
export function properties(...list: [id: number, value: Value, type?: number][]): Buffer {
  const count = Buffer.alloc(4);
  count.writeUInt32LE(list.length);
  return Buffer.concat([count, ...list.map(property)]);
}

function property([id, value, type]: [number, Value, number?]): Buffer {
  const tag = Buffer.alloc(4);
  tag.writeUInt16LE(type ?? (typeof value === "string" ? 31 : typeof value === "number" ? 3 : 258), 0);
  tag.writeUInt16LE(id, 2);
  const number = Buffer.alloc(4);
  if (typeof value === "number") {
    number.writeUInt32LE(value);
    return Buffer.concat([tag, number]);
  }
  const bytes = typeof value === "string" ? Buffer.from(`${value}\0`, "utf16le") : value;
  const sizes = Buffer.alloc(8);
  sizes.writeUInt32LE(1, 0);
  sizes.writeUInt32LE(bytes.length, 4);
  return Buffer.concat([tag, sizes, bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}

export const ID = {
  messageProperties: 0x00069003,
  rendering: 0x00069002,
  attachProperties: 0x00069005,
  title: 0x00018010,
  data: 0x0006800f,
  codepage: 0x00069007,
};

/** A TNEF stream of attributes. */
export function tnef(...attributes: Buffer[]): Buffer {
  return Buffer.concat([Buffer.from([0x78, 0x9f, 0x3e, 0x22, 1, 0]), ...attributes]);
}

/** The attributes of a file in a TNEF stream. */
export const tnefFile = (name: string, content: Buffer, more: [number, Value, number?][] = []): Buffer[] => [
  attribute(2, ID.rendering, Buffer.alloc(14)),
  attribute(2, ID.data, content),
  attribute(2, ID.attachProperties, properties([0x3707, name], ...more)),
];

/** Rich text as TNEF holds it, not compressed. */
export function storedRtf(rtf: string): Buffer {
  const head = Buffer.alloc(16);
  head.writeUInt32LE(rtf.length + 12, 0);
  head.writeUInt32LE(rtf.length, 4);
  head.write("MELA", 8, "latin1");
  return Buffer.concat([head, Buffer.from(rtf, "latin1")]);
}
