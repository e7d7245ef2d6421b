/** The error codes of sockets, of TLS and of the client library, and what they mean. */
import type { Fault } from "./server-words.ts";

const WRONG_TLS: Fault = {
  code: "tls",
  cause: "The port does not speak TLS; it may want STARTTLS, or the port is wrong",
  fix: "Set `tls` to `starttls` for this port, or give the port that speaks TLS from the first byte (IMAP 993, POP3 995).",
};
const OLD_TLS: Fault = {
  code: "tls",
  cause: "The server speaks only versions of TLS that are no longer safe (before 1.2)",
  fix: "Ask the server's operator to switch on TLS 1.2 or later.",
};
const EXPIRED: Fault = {
  code: "tls",
  cause: "The certificate has expired",
  fix: "Ask the server's operator to renew the certificate. Until then you can pin it by `fingerprint`.",
};
const OTHER_NAME: Fault = {
  code: "tls",
  cause: "The certificate was issued for another name",
  fix: "Use as `host` a name that the certificate was issued for, or pin the certificate by `fingerprint`.",
};
const UNTRUSTED: Fault = {
  code: "tls",
  cause: "The certificate is signed by an authority that this machine does not trust",
};
const SELF_SIGNED: Fault = { code: "tls", cause: "The certificate is self-signed" };
const SILENT: Fault = { code: "timeout", cause: "The server did not answer in time" };
const CUT: Fault = { code: "connect", cause: "The connection was cut" };
const TOO_MUCH: Fault = { code: "excess", cause: "The server sent an answer that is larger than the service accepts" };

const CODES: Record<string, Fault> = {
  ECONNREFUSED: { code: "connect", cause: "The server refuses connections" },
  EHOSTUNREACH: { code: "connect", cause: "The server cannot be reached" },
  ENETUNREACH: { code: "connect", cause: "The server's network cannot be reached" },
  ECONNRESET: CUT,
  EPIPE: CUT,
  NoConnection: CUT,
  EConnectionClosed: CUT,
  ClosedAfterConnectTLS: CUT,
  ClosedAfterConnectText: CUT,
  ETIMEDOUT: SILENT,
  ETIMEOUT: SILENT,
  CONNECT_TIMEOUT: SILENT,
  GREETING_TIMEOUT: SILENT,
  UPGRADE_TIMEOUT: { code: "timeout", cause: "The TLS handshake took too long" },
  ENOTFOUND: { code: "dns", cause: "There is no host of this name" },
  EAI_AGAIN: { code: "dns", cause: "The name servers did not answer" },
  CERT_HAS_EXPIRED: EXPIRED,
  CERT_NOT_YET_VALID: {
    code: "tls",
    cause: "The certificate is not valid yet",
    fix: "Check the clock of this machine, then ask the server's operator about the certificate.",
  },
  CERT_REVOKED: {
    code: "tls",
    cause: "The certificate was revoked",
    fix: "Ask the server's operator for a new certificate.",
  },
  ERR_TLS_CERT_ALTNAME_INVALID: OTHER_NAME,
  HOSTNAME_MISMATCH: OTHER_NAME,
  DEPTH_ZERO_SELF_SIGNED_CERT: SELF_SIGNED,
  SELF_SIGNED_CERT_IN_CHAIN: UNTRUSTED,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: UNTRUSTED,
  UNABLE_TO_GET_ISSUER_CERT: UNTRUSTED,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNTRUSTED,
  ERR_SSL_WRONG_VERSION_NUMBER: WRONG_TLS,
  EPROTO: { code: "tls", cause: "Client and server could not agree on TLS" },
  STARTTLS_INJECTION: { code: "starttls", cause: "Somebody injected text into the connection before TLS began" },
  LineTooLarge: TOO_MUCH,
  LiteralTooLarge: TOO_MUCH,
  ResponseTooLarge: TOO_MUCH,
  TooManyTokens: TOO_MUCH,
};

const PREFIXES: [RegExp, Fault][] = [
  [/^ERR_SSL_.*(UNSUPPORTED_PROTOCOL|PROTOCOL_VERSION|VERSION_TOO_LOW|WRONG_SSL_VERSION|NO_PROTOCOLS)/, OLD_TLS],
  [/^ERR_(SSL|TLS)_/, { code: "tls", cause: "Client and server could not agree on TLS" }],
];

/** What an error code means; `message` tells more where the code is a general one. Undefined for a code that nobody knows. */
export function getCodeFault(code: string, message: string): Fault | undefined {
  if (code === "EPROTO" && /unsupported protocol|protocol version|version too low/i.test(message)) return OLD_TLS;
  if (code === "EPROTO" && /wrong version number|packet length too long/i.test(message)) return WRONG_TLS;
  return CODES[code] ?? PREFIXES.find(([pattern]) => pattern.test(code))?.[1];
}
