/** The fields that several parts of a mailbox are made of. */
import * as v from "valibot";

/** One line of at most `max` characters. */
export const text = (max: number) =>
  v.pipe(
    v.string(),
    v.minLength(1, "must not be empty"),
    v.maxLength(max),
    v.regex(/^[^\r\n\0]*$/, "must not contain line breaks or NUL"),
  );

/** The client's own id for an application. A token that is bound to a prefix of mailbox ids sees those that begin so. */
export const ApplicationId = v.pipe(
  text(128),
  v.regex(/^[A-Za-z0-9._-]+$/, "may use A-Z a-z 0-9 . _ - only"),
  v.description("The id of an application, see /api/v1/applications."),
);

export const Host = v.pipe(
  text(253),
  v.regex(
    /^(\[[0-9a-fA-F:.]+\]|[0-9a-fA-F:.]+|[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?)*\.?)$/,
    "must be a host name or an IP address, without scheme, port or path",
  ),
);
export const Port = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65535));
export const Tls = v.picklist(["implicit", "starttls", "none"]);
export const Pem = v.pipe(
  v.string(),
  v.maxLength(65536),
  v.regex(/-----BEGIN CERTIFICATE-----/, "must be a PEM certificate"),
);
const Fingerprint = v.pipe(
  v.string(),
  v.regex(
    /^sha256\/([0-9a-fA-F:]{64,95}|[A-Za-z0-9+/]{43}=)$/,
    "must be sha256/ and the certificate's SHA-256 in hex or base64",
  ),
);
export const Address = v.pipe(text(320), v.regex(/^[^\s@<>()",;:]+@[^\s@<>()",;:]+$/, "must be an e-mail address"));
/** Which certificates of a server are trusted, besides those of the system. */
export const tlsTrust = { ca: v.optional(Pem), fingerprint: v.optional(Fingerprint) };
