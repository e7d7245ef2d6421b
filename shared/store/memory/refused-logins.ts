/** Refused logins of a node that is alone. After a restart, the states of its mailboxes tell how long to wait. */
import { createHash } from "node:crypto";
import type { PasswordLogin, RefusedLogin, RefusedLogins } from "../../contract/login.ts";
import type { Secret } from "../../contract/secret.ts";
import { clock } from "../../time.ts";

const KEPT_MS = 2 * 24 * 3_600_000;

export function memoryRefusedLogins(): RefusedLogins {
  const byUser = new Map<string, Map<string, RefusedLogin>>();

  const forgetExpired = (user: string) => {
    const logins = byUser.get(user);
    for (const [key, { until }] of logins ?? []) if (until + KEPT_MS < clock.now()) logins?.delete(key);
    if (logins?.size === 0) byUser.delete(user);
  };

  return {
    async get(login) {
      return byUser.get(login.user.toLowerCase())?.get(keyOf(login));
    },
    async save(login, refused) {
      for (const user of byUser.keys()) forgetExpired(user);
      const user = login.user.toLowerCase();
      byUser.set(user, (byUser.get(user) ?? new Map<string, RefusedLogin>()).set(keyOf(login), refused));
    },
    async remove(login) {
      const user = login.user.toLowerCase();
      byUser.get(user)?.delete(keyOf(login));
      forgetExpired(user);
    },
    async allowRetry({ user, password }, minMs) {
      const logins = byUser.get(user.toLowerCase());
      const ofPassword = passwordKey(password);
      for (const [key, refused] of logins ?? [])
        if (key.startsWith(ofPassword))
          logins?.set(key, { ...refused, times: 0, until: Math.min(refused.until, refused.at + minMs) });
    },
  };
}

/** It begins with that of the password, so that all servers of a password can be found. */
function keyOf({ server, password }: PasswordLogin): string {
  return `${passwordKey(password)}|${server.toLowerCase()}`;
}

function passwordKey(password: Secret): string {
  return createHash("sha256").update(password.reveal()).digest("base64");
}
