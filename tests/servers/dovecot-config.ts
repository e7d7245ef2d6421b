/** The configuration of the tests' private Dovecot (2.3), with the reason for every setting that is not obvious. */

export type DovecotPorts = { imap: number; imaps: number; pop3: number; pop3s: number; lmtp: number };

export type DovecotSettings = {
  /** Holds users, the certificate, the mail and everything that Dovecot writes. */
  folder: string;
  ports: DovecotPorts;
  /** Who owns the mail. */
  uid: number;
  gid: number;
  /** The user to run as when it is not root that starts it. */
  unprivileged: { user: string; group: string } | undefined;
  /** More lines. */
  extra: string;
};

/** Writes the configuration file. */
export function dovecotConfig(settings: DovecotSettings): string {
  const { folder, unprivileged } = settings;
  return `
protocols = imap pop3 lmtp
listen = 127.0.0.1
base_dir = ${folder}/run
state_dir = ${folder}/state
log_path = ${folder}/log
instance_name = ${folder.replaceAll(/[^\w]/g, "-")}
ssl = yes
ssl_cert = <${folder}/server.pem
ssl_key = <${folder}/server.key
${unprivileged ? rootless(unprivileged) : ""}
${authentication(settings)}
${mail()}
${services(settings.ports)}
${settings.extra}
`;
}

function authentication({ folder, uid, gid }: DovecotSettings): string {
  return `
disable_plaintext_auth = no
auth_mechanisms = plain login
# No punishment for failed logins, 2 s after each and up to 15 s for an address that failed before; 500 ms remain.
auth_failure_delay = 0
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
passdb {
  driver = dict
  args = ${folder}/users.conf
}
userdb {
  driver = static
  args = uid=${uid} gid=${gid} home=${folder}/mail/%u
}
first_valid_uid = ${uid}
last_valid_uid = ${uid}
first_valid_gid = ${gid}
last_valid_gid = ${gid}`;
}

function mail(): string {
  const special = ["Sent", "Drafts", "Junk", "Trash"];
  const folders = special.map((name) => `  mailbox ${name} {\n    auto = create\n    special_use = \\${name}\n  }`);
  return `
mail_location = maildir:~/Maildir
mail_fsync = never
namespace inbox {
  inbox = yes
  separator = /
${folders.join("\n")}
}
mail_max_userip_connections = 100000
# When the kernel's inotify instances run out, Dovecot polls in silence, every 30 s by default.
mailbox_idle_check_interval = 1 secs
lmtp_save_to_detail_mailbox = no`;
}

function services(ports: DovecotPorts): string {
  return `
default_client_limit = 12000
default_process_limit = 100
default_vsz_limit = 0
service imap-login {
${loginService("imap", ports.imap, ports.imaps)}
}
service pop3-login {
${loginService("pop3", ports.pop3, ports.pop3s)}
}
# Many clients to a process: 1,000 idle connections are then ten processes, and ten inotify instances.
service imap {
  client_limit = 100
  service_count = 0
  process_min_avail = 1
  process_limit = 200
}
service pop3 {
  client_limit = 20
  service_count = 0
  process_limit = 100
}
service lmtp {
  inet_listener lmtp {
    address = 127.0.0.1
    port = ${ports.lmtp}
  }
  process_min_avail = 1
}`;
}

/** Writes the configuration of the password lookup: one file of JSON for each user. */
export function usersConfig(folder: string): string {
  return `
uri = fs:posix:prefix=${folder}/
iterate_disable = yes
key passdb {
  key = users/%u
  format = json
}
passdb_objects = passdb
`;
}

// The high-performance mode of login processes, without a chroot: few processes, each with many connections.
function loginService(protocol: string, plain: number, tls: number): string {
  return `
  service_count = 0
  client_limit = 6000
  process_min_avail = 2
  process_limit = 4
  inet_listener ${protocol} {
    port = ${plain}
  }
  inet_listener ${protocol}s {
    port = ${tls}
    ssl = yes
  }`;
}

function rootless({ user, group }: { user: string; group: string }): string {
  const withoutChroot = ["imap-login", "pop3-login", "anvil", "stats", "imap-urlauth-login"];
  return `
default_internal_user = ${user}
default_internal_group = ${group}
default_login_user = ${user}
${withoutChroot.map((service) => `service ${service} {\n  chroot =\n}`).join("\n")}`;
}
