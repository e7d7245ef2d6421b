/** NTLMv2 for HTTP ([MS-NLMP], [MS-NTHT]): the two messages that a client says; older versions of NTLM are refused. */
import ntlm from "@ewsjs/ntlm-client";
import { Problem } from "../../contract/problem.ts";

const UNICODE = 0x1;
/** Unicode, the server's name asked for, NTLM, always sign, extended session security (which NTLMv2 needs). */
const FLAGS = UNICODE | 0x4 | 0x200 | 0x8000 | 0x80000;
/** What the library's buffer for the last message holds, less its fixed part, both responses and some room. */
const MOST_BYTES = 1024 - 64 - 24 - 48 - 16;

/** The value of `Authorization` that asks the server for its challenge. */
export function ntlmGreeting(): string {
  const message = Buffer.alloc(32);
  message.write("NTLMSSP\0", 0, "ascii");
  message.writeUInt32LE(1, 8);
  message.writeUInt32LE(FLAGS, 12);
  return `NTLM ${message.toString("base64")}`;
}

/** The challenge among the values of `WWW-Authenticate`; undefined when there is none. */
export function ntlmChallenge(offered: string | undefined): string | undefined {
  return /\bNTLM ([A-Za-z0-9+/=]{16,})/.exec(offered ?? "")?.[1];
}

/** The value of `Authorization` that answers a challenge. The user is DOMAIN\user, user@domain, or a bare name of the server's own domain. */
export function ntlmAnswer(challenge: string, user: string, password: string): string {
  const heard = decoded(challenge);
  const [domain, name] = parted(user);
  const used = (heard.targetInfo?.buffer?.length ?? 0) + 2 * ((domain ?? heard.targetName).length + name.length);
  if (used > MOST_BYTES)
    throw new Problem("auth_method", "The server's NTLM challenge is too long", { retry: "never" });
  return ntlm.createType3Message(heard, name, password, "", domain);
}

function decoded(challenge: string) {
  let heard;
  try {
    heard = ntlm.decodeType2Message(`NTLM ${challenge}`);
  } catch (error) {
    throw new Problem("protocol", "The server's NTLM challenge cannot be read", { cause: error });
  }
  if (heard.version !== 2 || !heard.targetInfo?.buffer)
    throw new Problem("auth_method", "The server allows only versions of NTLM that are not safe", { retry: "never" });
  return { ...heard, encoding: heard.flags & UNICODE ? ("ucs2" as const) : ("ascii" as const) };
}

function parted(user: string): [domain: string | undefined, name: string] {
  const at = user.indexOf("\\");
  if (at > 0) return [user.slice(0, at), user.slice(at + 1)];
  return user.includes("@") ? ["", user] : [undefined, user];
}
