/**
 * The tables of the SQLite store and queue, as migrations that only go forward. user_version counts the migrations that
 * have run.
 */

/** States of a row in `messages` and `prints`. */
export const FREE = 0;
export const CLAIMED = 1;
export const DONE = 2;

/** Tables whose rows belong to a mailbox by their column `mailbox`. They are deleted with the mailbox. */
export const OWNED_TABLES = [
  "states",
  "cursors",
  "messages",
  "prints",
  "deliveries",
  "facts",
  "outbox",
  "automatic",
  "measured",
  "connections",
] as const;

const initialSchema = `
  create table meta (name text primary key, value) without rowid;
  insert into meta values ('fence', 0);
  -- One row per SECRET_KEY that encrypted something. It proves at the start that the right key is set.
  create table canaries (key_id text primary key, sealed text not null) without rowid;

  create table mailboxes (
    id text primary key, revision integer not null, paused integer not null, address text not null,
    key_id text not null, doc text not null
  ) without rowid;
  create index mailboxes_address on mailboxes (address, id);
  -- Removed mailboxes. Their data is deleted again for a while, because a worker may still write some.
  create table removed (mailbox text primary key, at integer not null) without rowid;
  create table states (
    mailbox text primary key, status text not null, since text not null, node text, last_verified_at text,
    last_arrival_at text, failed_logins integer not null, problem text
  ) without rowid;
  create index states_status on states (status, mailbox);

  create table fences (mailbox text primary key, fence integer not null) without rowid;
  create table cursors (
    mailbox text not null, folder text not null, epoch text not null, uid integer not null, state text,
    newest text not null, primary key (mailbox, folder)
  ) without rowid;

  -- Messages in flight, and those that are done above their folder's cursor. A message at or below the cursor without a row is done.
  create table messages (
    mailbox text not null, folder text not null, epoch text not null, uid integer not null,
    state integer not null, expires integer not null, primary key (mailbox, folder, epoch, uid)
  ) without rowid;
  create table prints (
    mailbox text not null, print blob not null, folder text not null, epoch text not null, uid integer not null,
    state integer not null, expires integer not null, at integer not null, primary key (mailbox, print)
  ) without rowid;
  create index prints_claimed on prints (mailbox, folder, epoch, uid) where state = 1;
  create index prints_at on prints (at);

  create table deliveries (
    id text primary key, mailbox text not null, endpoint text not null, state text not null,
    created_at integer not null, updated_at integer not null, next_attempt_at integer not null,
    taken_until integer not null, doc text not null
  ) without rowid;
  create index deliveries_newest on deliveries (created_at, id);
  create index deliveries_state on deliveries (state, created_at, id);
  create index deliveries_mailbox on deliveries (mailbox, created_at, id);
  create index deliveries_retrying on deliveries (endpoint, created_at, id) where state = 'retrying';
  create index deliveries_due on deliveries (next_attempt_at) where state = 'retrying';
  create index deliveries_delivered on deliveries (updated_at) where state = 'delivered';
  -- A rowid table, because large rows do not belong in the b-tree of their key.
  create table spool (id text not null unique, bytes integer not null, raw blob not null);

  -- Triggers keep these counts, so that reading them costs the same however many rows exist.
  create table tallies (name text primary key, n integer not null) without rowid;
  insert into tallies values ('retrying', 0), ('parked', 0), ('delivered', 0), ('spoolBytes', 0);
  create trigger delivery_added after insert on deliveries begin
    update tallies set n = n + 1 where name = new.state;
  end;
  create trigger delivery_moved after update of state on deliveries when old.state <> new.state begin
    update tallies set n = n - 1 where name = old.state;
    update tallies set n = n + 1 where name = new.state;
  end;
  create trigger delivery_dropped after delete on deliveries begin
    update tallies set n = n - 1 where name = old.state;
    delete from spool where id = old.id;
  end;
  create trigger spool_added after insert on spool begin
    update tallies set n = n + new.bytes where name = 'spoolBytes';
  end;
  create trigger spool_dropped after delete on spool begin
    update tallies set n = n - old.bytes where name = 'spoolBytes';
  end;

  create table facts (seq integer primary key, mailbox text not null, doc text not null);
  create index facts_mailbox on facts (mailbox, seq);

  create table tasks (
    id integer primary key autoincrement, lane text not null, task text not null, due_at integer not null,
    attempt integer not null, created_at integer not null
  );
  create index tasks_due on tasks (due_at, lane);
  create index tasks_lane on tasks (lane, due_at, id);
`;

const outbox = `
  create table outbox (
    id text primary key, mailbox text not null, key text, created_at integer not null, state text not null,
    revision integer not null, updated_at integer not null, due_at integer not null, taken_until integer not null,
    message_id text not null, server_message_id text, doc text not null
  ) without rowid;
  create unique index outbox_key on outbox (mailbox, key) where key is not null;
  create index outbox_newest on outbox (mailbox, created_at, id);
  create index outbox_state on outbox (mailbox, state, created_at, id);
  create index outbox_due on outbox (due_at) where state = 'queued';
  create index outbox_over on outbox (updated_at) where state <> 'queued';
  create index outbox_message on outbox (mailbox, message_id);
  create index outbox_renamed on outbox (mailbox, server_message_id) where server_message_id is not null;
  create table outbox_spool (id text not null unique, bytes integer not null, raw blob not null);
  insert into tallies values ('outboxBytes', 0);
  create trigger outbox_dropped after delete on outbox begin
    delete from outbox_spool where id = old.id;
  end;
  create trigger outbox_spool_added after insert on outbox_spool begin
    update tallies set n = n + new.bytes where name = 'outboxBytes';
  end;
  create trigger outbox_spool_dropped after delete on outbox_spool begin
    update tallies set n = n - old.bytes where name = 'outboxBytes';
  end;
  -- Automatic mail of the last hour, received from an address or sent to it.
  create table automatic (mailbox text not null, address text not null, way text not null, at integer not null);
  create index automatic_address on automatic (mailbox, address, way, at);
  create index automatic_at on automatic (at);
`;

/**
 * Documents are stored in the order in which they came, with indexes on their keys. If they were stored by random keys,
 * each new one would rewrite whole pages of old ones.
 */
const outboxInOrder = `
  create table deliveries_in_order (
    id text not null unique, mailbox text not null, endpoint text not null, state text not null,
    created_at integer not null, updated_at integer not null, next_attempt_at integer not null,
    taken_until integer not null, doc text not null
  );
  insert into deliveries_in_order
    select id, mailbox, endpoint, state, created_at, updated_at, next_attempt_at, taken_until, doc
    from deliveries order by created_at;
  drop table deliveries;
  alter table deliveries_in_order rename to deliveries;
  create index deliveries_newest on deliveries (created_at, id);
  create index deliveries_state on deliveries (state, created_at, id);
  create index deliveries_mailbox on deliveries (mailbox, created_at, id);
  create index deliveries_retrying on deliveries (endpoint, created_at, id) where state = 'retrying';
  create index deliveries_due on deliveries (next_attempt_at) where state = 'retrying';
  create index deliveries_delivered on deliveries (updated_at) where state = 'delivered';
  create trigger delivery_added after insert on deliveries begin
    update tallies set n = n + 1 where name = new.state;
  end;
  create trigger delivery_moved after update of state on deliveries when old.state <> new.state begin
    update tallies set n = n - 1 where name = old.state;
    update tallies set n = n + 1 where name = new.state;
  end;
  create trigger delivery_dropped after delete on deliveries begin
    update tallies set n = n - 1 where name = old.state;
    delete from spool where id = old.id;
  end;

  create table outbox_in_order (
    id text not null unique, mailbox text not null, key text, created_at integer not null, state text not null,
    revision integer not null, updated_at integer not null, due_at integer not null, taken_until integer not null,
    message_id text not null, server_message_id text, doc text not null
  );
  insert into outbox_in_order
    select id, mailbox, key, created_at, state, revision, updated_at, due_at, taken_until, message_id, server_message_id, doc
    from outbox order by created_at;
  drop table outbox;
  alter table outbox_in_order rename to outbox;
  create unique index outbox_key on outbox (mailbox, key) where key is not null;
  create index outbox_newest on outbox (mailbox, created_at, id);
  create index outbox_state on outbox (mailbox, state, created_at, id);
  create index outbox_due on outbox (due_at) where state = 'queued';
  create index outbox_over on outbox (updated_at) where state <> 'queued';
  create index outbox_message on outbox (mailbox, message_id);
  create index outbox_renamed on outbox (mailbox, server_message_id) where server_message_id is not null;
  create trigger outbox_dropped after delete on outbox begin
    delete from outbox_spool where id = old.id;
  end;
`;

/** Tasks that failed for good and wait for a person, under their old ids. */
const parkedTasks = `
  create table parked_tasks (
    id integer primary key, lane text not null, task text not null, attempt integer not null, reason text not null,
    parked_at integer not null, created_at integer not null
  );
`;

/** The encrypted data key of each message. A message without one was stored by a version that did not encrypt messages. */
const messageKeys = `
  create table spool_keys (id text primary key, key_id text not null, data_key text not null) without rowid;
  create index spool_keys_key on spool_keys (key_id, id);
  create trigger spool_key_dropped after delete on spool begin
    delete from spool_keys where id = old.id;
  end;
  create table outbox_spool_keys (id text primary key, key_id text not null, data_key text not null) without rowid;
  create index outbox_spool_keys_key on outbox_spool_keys (key_id, id);
  create trigger outbox_spool_key_dropped after delete on outbox_spool begin
    delete from outbox_spool_keys where id = old.id;
  end;
`;

/** Entries of the audit outlive their mailbox. */
const access = `
  create table tokens (
    id text primary key, created_at integer not null, expires_at integer, last_used_at text, doc text not null
  ) without rowid;
  create table audit (id text not null unique, at integer not null, actor text not null, mailbox text, doc text not null);
  create index audit_newest on audit (at, id);
  create index audit_actor on audit (actor, at, id);
  create index audit_mailbox on audit (mailbox, at, id);
`;

/** Whether the message that has the content may be one that had a lower uid before. */
const perhapsKnown = "alter table prints add column perhaps_known integer not null default 0;";

const applications =
  "create table applications (id text primary key, revision integer not null, doc text not null) without rowid;";

/** Each link is encrypted as a whole. */
const consents = `
  create table consents (
    id text primary key, revision integer not null, forget_at integer not null, doc text not null
  ) without rowid;
`;

/** How each mailbox was in the last day, when each node was there, and what was counted. See `measured/` in the store. */
const measured = `
  create table measured (mailbox text primary key, states text not null default '', latency integer) without rowid;
  create table node_runs (
    id text primary key, node text not null, from_at integer not null, until_at integer not null
  ) without rowid;
  create table counts (at integer not null, name text not null, n integer not null, primary key (at, name)) without rowid;
  create index states_arrival on states (last_arrival_at, mailbox);
`;

/**
 * What deliveries are found by: their subject and sender as they are searched, and the Message-ID. A search reads this
 * index alone. New rows are at its end, so it costs little; an index of Message-IDs would cost each mail another page.
 */
const searchedDeliveries = `
  alter table deliveries add column words text;
  alter table deliveries add column message_id text;
  drop index deliveries_newest;
  create index deliveries_newest on deliveries (created_at, id, words, message_id);
`;

/** What is known of the connection of each mailbox. */
const connections = "create table connections (mailbox text primary key, doc text not null) without rowid;";

/** The n-th entry migrates a file from version n to n + 1. A released entry never changes; new ones are only added. */
export const MIGRATIONS: readonly string[] = [
  initialSchema,
  outbox,
  outboxInOrder,
  parkedTasks,
  access,
  messageKeys,
  perhapsKnown,
  applications,
  consents,
  measured,
  searchedDeliveries,
  connections,
];
