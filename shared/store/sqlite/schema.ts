/** The tables of the embedded store and queue, as migrations that only go forward; user_version counts those that were run. */

/** States of a row in `messages` and `prints`. */
export const FREE = 0;
export const CLAIMED = 1;
export const DONE = 2;

/** Tables whose rows belong to a mailbox by their column of that name: they go when it goes. */
export const OWNED = ["states", "cursors", "messages", "prints", "deliveries", "facts", "outbox", "automatic"] as const;

const first = `
  create table meta (name text primary key, value) without rowid;
  insert into meta values ('fence', 0);
  -- One row per key that sealed something: proves at open that the right key is there.
  create table canaries (key_id text primary key, sealed text not null) without rowid;

  create table mailboxes (
    id text primary key, revision integer not null, paused integer not null, address text not null,
    key_id text not null, doc text not null
  ) without rowid;
  create index mailboxes_address on mailboxes (address, id);
  -- Removed ones are swept again for a while: a worker may have been about to write something for them.
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

  -- The ledger's exceptions to its low-water mark, which is the cursor: what is in flight.
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
  -- A rowid table: large rows do not belong into the tree of their key.
  create table spool (id text not null unique, bytes integer not null, raw blob not null);

  -- Kept by triggers, so that counting costs the same however much there is.
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
  -- Automatic mail of the last hour, heard from an address or sent to it.
  create table automatic (mailbox text not null, address text not null, way text not null, at integer not null);
  create index automatic_address on automatic (mailbox, address, way, at);
  create index automatic_at on automatic (at);
`;

/**
 * Documents lie in the order they came, found by indexes on their keys: a tree of documents by random keys writes, for each new one, whole
 * pages of old ones.
 */
const inOrder = `
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

/** The n-th entry brings a file from version n to n + 1. Entries are never changed once released, only added. */
export const MIGRATIONS: readonly string[] = [first, outbox, inOrder];
