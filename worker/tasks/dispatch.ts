/** Every kind of task and who does it: the one value that worker nodes run, and API nodes too. */
import type { Config } from "../../shared/config.ts";
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import { asProblem } from "../../shared/contract/problem.ts";
import type { Task } from "../../shared/contract/task.ts";
import type { Egress } from "../../shared/egress.ts";
import type { MailConnection } from "../../shared/mail/mail.ts";
import { mimeParser } from "../../shared/mail/mime/parse.ts";
import type { Perform, TaskSender } from "../../shared/queue/queue.ts";
import type { Part } from "../../shared/run.ts";
import type { Store } from "../../shared/store/store.ts";
import type { Emit } from "../../shared/telemetry/events.ts";
import type { Backoff } from "../../shared/time.ts";
import type { SendingDeps } from "../../shared/mail/sending.ts";
import { holdsOf } from "../../shared/mail/smtp/connect.ts";
import { byteBudget } from "../budget.ts";
import { copy } from "./copy-to-sent.ts";
import { type CrmCalls, crmCalls } from "../crm.ts";
import { deliver, type DeliverDeps } from "./deliver.ts";
import { endpointGates } from "../endpoint/circuit-breaker.ts";
import { httpPost } from "../endpoint/http.ts";
import { turnsOfAll } from "../endpoint/message-lock.ts";
import { load } from "../load.ts";
import { notify } from "../delivery/notify.ts";
import { sweep } from "./overdue.ts";
import { type Readers, readers } from "../mail/reader-pool.ts";
import { bringForward } from "../delivery/bring-forward.ts";
import { redeliver } from "./redeliver.ts";
import { refusals } from "../mail/login-backoff.ts";
import { send, type SendDeps } from "./send.ts";
import { senders } from "../mail/sender-pool.ts";
import { tell } from "./callback.ts";
import { tidy } from "./after-delivery.ts";
import { tidyOrders } from "../delivery/after-delivery-batches.ts";

export type WorkerDeps = {
  config: Config;
  store: Store;
  tasks: TaskSender;
  egress: Egress;
  emit: Emit;
  backoff: Backoff;
  /** A connection to this mailbox, not yet opened. */
  connect: (mailbox: Mailbox) => MailConnection;
  /** The connections that this process watches, by mailbox: small downloads borrow them. */
  watched: ReadonlyMap<string, MailConnection>;
  /** The way to the servers that mailboxes send through. */
  mail: SendingDeps;
  /** A retrying delivery overdue by this much has no task any more. */
  overdueMs: number;
};

export type Worker = { crm: CrmCalls; perform: Perform; readers: Readers; parts: Part[]; close: () => Promise<void> };

/** Message bytes held in memory at one time; a single larger message has it alone. */
const BUDGET_BYTES = 128 * 1024 * 1024;

/** Everything that doing tasks needs. The parts are run beside whatever takes tasks; `close` ends what they leave open. */
export function worker(given: WorkerDeps): Worker {
  const { config, store, tasks, emit, backoff } = given;
  const recovery = { deliveries: store.deliveries, tasks, emit };
  const recovered = (endpoint: string) => {
    bringForward(recovery, endpoint).catch((error: unknown) => {
      const { code, message } = asProblem(error);
      emit({
        kind: "service.failed",
        what: `bringing deliveries to ${endpoint} forward`,
        failure: { code, cause: message },
      });
    });
  };
  const parser = mimeParser();
  const post = httpPost({ egress: given.egress, timeoutMs: config.DELIVERY_TIMEOUT_SECONDS * 1000 });
  const pool = readers({
    connect: given.connect,
    watched: given.watched,
    seats: store.seats,
    perMailbox: config.READERS_PER_MAILBOX,
    refusals: refusals(backoff),
    seatMs: config.TAKEN_SECONDS * 1000,
  });
  const deps: DeliverDeps = {
    store,
    mailboxes: store.mailboxes,
    deliveries: store.deliveries,
    outbox: store.outbox,
    tasks,
    tidying: tidyOrders({ tasks }),
    emit,
    backoff,
    gates: endpointGates({
      perEndpoint: config.DELIVERIES_PER_ENDPOINT,
      backoff,
      emit,
      onRecovered: recovered,
    }),
    turns: turnsOfAll(store.seats),
    parse: parser.parse,
    post,
    readers: pool,
    budget: byteBudget(BUDGET_BYTES),
    retryHours: config.RETRY_HOURS,
    takenMs: config.TAKEN_SECONDS * 1000,
  };
  const outgoing = senders(given.mail);
  const sending: SendDeps = { ...deps, senders: outgoing, holds: holdsOf(given.mail) };
  return {
    perform: performer(deps, sending),
    readers: pool,
    crm: crmCalls({ post }),
    parts: [
      { name: "mail readers", run: pool.run },
      { name: "mail senders", run: outgoing.run },
      ...overdueParts(given),
    ],
    async close() {
      post.close();
      await parser.close();
    },
  };
}

const AT_ONCE = 500;

function overdueParts({ store, tasks, emit, overdueMs }: WorkerDeps): Part[] {
  const part = (what: string, find: (dueBefore: string) => Promise<Task[]>): Part => ({
    name: `overdue ${what}`,
    run: (signal) => sweep({ tasks, emit }, { what, find, overdueMs }, signal),
  });
  return [
    part("deliveries", async (dueBefore) =>
      (await store.deliveries.retrying({ dueBefore, limit: AT_ONCE })).map(({ id, mailbox }) => ({
        version: 1,
        kind: "redeliver",
        mailbox,
        delivery: id,
      })),
    ),
    part("sendings", async (dueBefore) =>
      (await store.outbox.overdue({ dueBefore, limit: AT_ONCE })).map(({ id, mailbox }) => ({
        version: 1,
        kind: "send",
        mailbox,
        sending: id,
      })),
    ),
  ];
}

type Handler<K extends Task["kind"]> = (
  task: Extract<Task, { kind: K }>,
  tries: number,
  signal: AbortSignal,
) => ReturnType<Perform>;

function performer(deps: DeliverDeps, sending: SendDeps): Perform {
  const handlers: { [K in Task["kind"]]: Handler<K> } = {
    deliver: (task, tries, signal) => deliver(deps, task, tries, signal),
    redeliver: (task, tries, signal) => redeliver(deps, task, tries, signal),
    tidy: (task, _tries, signal) => tidy(deps, task, signal),
    load: (task, _tries, signal) => load(deps, task, signal),
    tell: (task, _tries, signal) => tell(deps, task, signal),
    send: (task, tries, signal) => send(sending, task, tries, signal),
    copy: (task, _tries, signal) => copy(deps, task, signal),
    notify: (task, tries, signal) => notify(deps, task, tries, signal),
  };
  const perform = <K extends Task["kind"]>(task: Extract<Task, { kind: K }>, tries: number, signal: AbortSignal) =>
    (handlers[task.kind as K] as Handler<K>)(task, tries, signal);
  return perform;
}
