/** Calls the handler of each kind of task. Workers and API nodes use the same function. */
import type { Config } from "../../shared/config.ts";
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import { asProblem } from "../../shared/contract/problem.ts";
import type { Task } from "../../shared/contract/task.ts";
import type { Egress } from "../../shared/egress.ts";
import type { MailConnection } from "../../shared/mail/mail.ts";
import { mimeParser } from "../../shared/mail/mime/parse.ts";
import type { PerformTask, TaskSender } from "../../shared/queue/queue.ts";
import type { Part } from "../../shared/run.ts";
import { pauseFinder } from "../../shared/store/endpoint-pauses.ts";
import type { Store } from "../../shared/store/store.ts";
import type { Emit } from "../../shared/telemetry/events.ts";
import type { Backoff } from "../../shared/time.ts";
import type { SendingDeps } from "../../shared/mail/sending.ts";
import { getMaxDurations } from "../../shared/mail/smtp/connect.ts";
import { copyToSent } from "./copy-to-sent.ts";
import { alarmPost } from "../alarms.ts";
import { testPoster } from "../test-post.ts";
import { type CrmCalls, crmCalls } from "../crm.ts";
import { deliver, type DeliverDeps } from "./deliver.ts";
import { circuitBreakers } from "../endpoint/circuit-breaker.ts";
import { knockAtAbsent } from "../endpoint/knocks.ts";
import { httpPost } from "../endpoint/http.ts";
import { clusterMessageLock } from "../endpoint/message-lock.ts";
import { synchronize } from "./synchronize.ts";
import { notify } from "../delivery/notify.ts";
import { sweepOverdue } from "./overdue.ts";
import { type ReaderPool, readerPool } from "../mail/reader-pool.ts";
import { bringForward, bringProbesForward } from "../delivery/bring-forward.ts";
import { redeliver } from "./redeliver.ts";
import { loginBackoff } from "../mail/login-backoff.ts";
import { admitInTurn } from "../shares/admission.ts";
import { type Lines, strangerLines } from "../shares/lines.ts";
import { memoryShares } from "../shares/memory.ts";
import { destinationsOf } from "../shares/strangers.ts";
import { send, type SendDeps } from "./send.ts";
import { senderPool } from "../mail/sender-pool.ts";
import { sendCallback } from "./callback.ts";
import { applyAfterDelivery } from "./after-delivery.ts";
import { afterDeliveryBatches } from "../delivery/after-delivery-batches.ts";

export type WorkerDeps = {
  config: Config;
  store: Store;
  tasks: TaskSender;
  egress: Egress;
  emit: Emit;
  backoff: Backoff;
  /** Creates a connection to this mailbox. It opens at the first use. */
  connect: (mailbox: Mailbox) => MailConnection;
  /** The subscriptions' connections of this process, by mailbox. Small downloads borrow them. */
  watched: ReadonlyMap<string, MailConnection>;
  /** What sessions for sending need. */
  mail: SendingDeps;
  /** The base for how much the process does at once. A multiple of it is in hand, most of which waits for an answer. */
  concurrency: number;
};

export type Worker = {
  crm: CrmCalls;
  postAlarm: ReturnType<typeof alarmPost>;
  postTest: ReturnType<typeof testPoster>;
  perform: PerformTask;
  /** How many tasks the queue gives to `perform` at the same time. */
  inHand: number;
  readers: ReaderPool;
  parts: Part[];
  close: () => Promise<void>;
};

/** Message bytes held in memory at the same time. */
const MEMORY_BYTES = 128 * 1024 * 1024;
/** The tasks in hand, as a multiple of `concurrency`. Most of them wait for a stranger, each in its line. */
const IN_HAND_FACTOR = 16;

/** What is needed to perform tasks. The parts run beside the queue. `close` closes what they leave open. */
export function worker(workerDeps: WorkerDeps): Worker {
  const { config, store, tasks, emit, backoff } = workerDeps;
  const parser = mimeParser();
  const post = httpPost({ egress: workerDeps.egress, timeoutMs: config.DELIVERY_TIMEOUT_SECONDS * 1000 });
  const inHand = IN_HAND_FACTOR * workerDeps.concurrency;
  const lines = strangerLines({ inHand });
  const getDestinations = destinationsOf({
    deliveriesPerEndpoint: config.DELIVERIES_PER_ENDPOINT,
    readersPerMailbox: config.READERS_PER_MAILBOX,
  });
  const pool = readerPool({
    lines,
    getDestinations,
    connect: workerDeps.connect,
    watched: workerDeps.watched,
    slots: store.connectionSlots,
    perMailbox: config.READERS_PER_MAILBOX,
    refusals: loginBackoff(backoff),
    slotMs: config.CLAIM_SECONDS * 1000,
  });
  const endpoints = pausedEndpoints(workerDeps, lines);
  const deps: DeliverDeps = {
    store,
    mailboxes: store.mailboxes,
    deliveries: store.deliveries,
    outbox: store.outbox,
    tasks,
    scheduleAfterDelivery: afterDeliveryBatches({ tasks }),
    emit,
    backoff,
    circuitBreakers: endpoints.circuitBreakers,
    getDestinations,
    findPause: pauseFinder(store),
    messageLock: clusterMessageLock(store.connectionSlots),
    parse: parser.parse,
    post,
    showWords: config.EGRESS_PRIVATE === "allow",
    keepSubjects: config.KEEP_SUBJECTS === "on",
    readers: pool,
    memory: memoryShares(MEMORY_BYTES, lines),
    retryHours: config.RETRY_HOURS,
    claimMs: config.CLAIM_SECONDS * 1000,
  };
  const outgoing = senderPool(workerDeps.mail);
  const claimDurations = getMaxDurations(workerDeps.mail);
  const sending: SendDeps = { ...deps, lines, senders: outgoing, claimDurations };
  const { isPaused } = endpoints.circuitBreakers;
  const admission = { mailboxes: store.mailboxes, lines, getDestinations, isPaused, inHand };
  return {
    perform: admitInTurn(admission, dispatcher(deps, sending)),
    inHand,
    readers: pool,
    crm: crmCalls({ post }),
    postAlarm: alarmPost({ post }),
    postTest: testPoster({ post, showWords: deps.showWords }),
    parts: [
      { name: "mail readers", run: pool.run },
      { name: "mail senders", run: outgoing.run },
      endpoints.knocks,
      ...overdueParts(workerDeps),
    ],
    async close() {
      post.close();
      await parser.close();
    },
  };
}

/** The pauses of endpoints, and the part that ends them as soon as an absent endpoint is back. */
function pausedEndpoints({ store, tasks, emit, backoff, egress }: WorkerDeps, lines: Lines) {
  const makeDue = (bring: typeof bringForward) => (endpoint: string) => {
    bring({ deliveries: store.deliveries, tasks, emit }, endpoint).catch((error: unknown) => {
      const { code, message } = asProblem(error);
      emit({
        kind: "service.failed",
        what: `making the deliveries to ${endpoint} due`,
        failure: { code, cause: message },
      });
    });
  };
  const breakers = circuitBreakers({ lines, backoff, emit, onRecovered: makeDue(bringForward) });
  const knocks = { circuitBreakers: breakers, egress, backoff, onReturned: makeDue(bringProbesForward) };
  const run = (signal: AbortSignal) => knockAtAbsent(knocks, signal);
  return { circuitBreakers: breakers, knocks: { name: "knocks at absent endpoints", run } };
}

const SWEEP_LIMIT = 500;

function overdueParts({ store, tasks, emit }: WorkerDeps): Part[] {
  const part = (what: string, find: (dueBefore: string) => Promise<Task[]>): Part => ({
    name: `overdue ${what}`,
    run: (signal) => sweepOverdue({ tasks, emit }, { what, find }, signal),
  });
  return [
    part("deliveries", async (dueBefore) =>
      (await store.deliveries.listRetrying({ dueBefore, limit: SWEEP_LIMIT })).map(({ id, mailbox }) => ({
        version: 1,
        kind: "redeliver",
        mailbox,
        delivery: id,
      })),
    ),
    part("sendings", async (dueBefore) =>
      (await store.outbox.listOverdue({ dueBefore, limit: SWEEP_LIMIT })).map(({ id, mailbox }) => ({
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
) => ReturnType<PerformTask>;

function dispatcher(deps: DeliverDeps, sending: SendDeps): PerformTask {
  const handlers: { [K in Task["kind"]]: Handler<K> } = {
    deliver: (task, tries, signal) => deliver(deps, task, tries, signal),
    redeliver: (task, tries, signal) => redeliver(deps, task, tries, signal),
    afterDelivery: (task, _tries, signal) => applyAfterDelivery(deps, task, signal),
    synchronize: (task, _tries, signal) => synchronize(deps, task, signal),
    callback: (task, _tries, signal) => sendCallback(deps, task, signal),
    send: (task, tries, signal) => send(sending, task, tries, signal),
    copy: (task, _tries, signal) => copyToSent(deps, task, signal),
    notify: (task, tries, signal) => notify(deps, task, tries, signal),
  };
  const dispatch = <K extends Task["kind"]>(task: Extract<Task, { kind: K }>, tries: number, signal: AbortSignal) =>
    (handlers[task.kind as K] as Handler<K>)(task, tries, signal);
  return dispatch;
}
