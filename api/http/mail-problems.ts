/** What the routes that visit a mail server have in common. */
import type { ProblemCode } from "../../shared/contract/problem.ts";

/** How long a person waits for a mail server at most. */
export const VISIT_MS = 60_000;

/** What a mail server may come to mean for an answer. */
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
