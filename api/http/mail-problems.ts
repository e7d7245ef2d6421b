/** What the routes that connect to a mail server have in common. */
import type { ProblemCode } from "../../shared/contract/problem.ts";

/** How long a request waits for a mail server at most. */
export const MAIL_TIMEOUT_MS = 60_000;

/** The problems that a mail server may cause in an answer. */
export const MAIL_PROBLEMS: ProblemCode[] = [
  "auth",
  "auth_method",
  "token",
  "dns",
  "tls",
  "starttls",
  "egress",
  "folder",
  "connect",
  "unavailable",
  "too_many_connections",
  "throttled",
  "protocol",
  "timeout",
];
