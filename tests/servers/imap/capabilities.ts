/** What the in-process IMAP server says it can; everything can be switched off, also while it runs. */

/** The switches; all are on but the last four. */
export type Capabilities = {
  idle: boolean;
  uidplus: boolean;
  move: boolean;
  condstore: boolean;
  namespace: boolean;
  id: boolean;
  enable: boolean;
  unselect: boolean;
  specialUse: boolean;
  literalPlus: boolean;
  saslIr: boolean;
  starttls: boolean;
  /** AUTH=PLAIN, AUTH=LOGIN and the mechanisms for access tokens. */
  plain: boolean;
  login: boolean;
  xoauth2: boolean;
  oauthbearer: boolean;
  /** Stable message ids, RFC 8474. */
  objectid: boolean;
  /** Gmail's X-GM-MSGID, X-GM-THRID and X-GM-LABELS. */
  gmail: boolean;
  /** Refuses LOGIN until TLS is on. */
  loginDisabled: boolean;
  /** Speaks only when spoken to: the list is in no greeting and no answer to LOGIN. */
  silent: boolean;
};

const DEFAULTS: Capabilities = {
  idle: true,
  uidplus: true,
  move: true,
  condstore: true,
  namespace: true,
  id: true,
  enable: true,
  unselect: true,
  specialUse: true,
  literalPlus: true,
  saslIr: true,
  starttls: true,
  plain: true,
  login: true,
  xoauth2: true,
  oauthbearer: true,
  objectid: false,
  gmail: false,
  loginDisabled: false,
  silent: false,
};

/** The defaults with the wishes of a test on top. */
export function capabilitiesWith(wishes: Partial<Capabilities> = {}): Capabilities {
  return { ...DEFAULTS, ...wishes };
}

/** The names for CAPABILITY: how to log in before login, what the mail offers after it. */
export function capabilityNames(on: Capabilities, at: { secure: boolean; loggedIn: boolean; tls: boolean }): string {
  const before: Record<string, boolean> = {
    STARTTLS: on.starttls && at.tls && !at.secure,
    LOGINDISABLED: on.loginDisabled && !at.secure,
    "SASL-IR": on.saslIr,
    "AUTH=PLAIN": on.plain,
    "AUTH=LOGIN": on.login,
    "AUTH=XOAUTH2": on.xoauth2,
    "AUTH=OAUTHBEARER": on.oauthbearer,
  };
  const after: Record<string, boolean> = {
    UIDPLUS: on.uidplus,
    MOVE: on.move,
    CONDSTORE: on.condstore,
    NAMESPACE: on.namespace,
    UNSELECT: on.unselect,
    "SPECIAL-USE": on.specialUse,
    OBJECTID: on.objectid,
    "X-GM-EXT-1": on.gmail,
  };
  const always: Record<string, boolean> = {
    IMAP4rev1: true,
    ID: on.id,
    ENABLE: on.enable,
    "LITERAL+": on.literalPlus,
    IDLE: on.idle,
  };
  const table = { ...always, ...(at.loggedIn ? after : before) };
  return Object.keys(table)
    .filter((name) => table[name])
    .join(" ");
}
