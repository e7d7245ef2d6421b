/** Bulk actions, the running ones and the last that ended: one document that all nodes share. */
import { randomBytes } from "node:crypto";
import * as v from "valibot";
import { Problem } from "../../shared/contract/problem.ts";
import { type Actor, TokenScope } from "../../shared/contract/token.ts";
import type { Documents } from "../../shared/store/documents.ts";
import { clock } from "../../shared/time.ts";
import { DeliveryFilter, MailboxFilter } from "./filters.ts";

/** The node that works on it writes its progress every second. `after` is where another node goes on. */
const progress = {
  state: v.picklist(["running", "done", "stopped", "failed"]),
  total: v.nullable(v.number()),
  done: v.number(),
  failed: v.number(),
  problems: v.array(v.object({ id: v.string(), cause: v.string() })),
  cause: v.nullable(v.string()),
  after: v.nullable(v.string()),
  node: v.nullable(v.string()),
  stopRequested: v.boolean(),
  updatedAt: v.string(),
  endedAt: v.nullable(v.string()),
};
const started = {
  id: v.string(),
  actor: v.object({ id: v.string(), name: v.string(), scopes: v.array(TokenScope), mailboxPrefix: v.string() }),
  createdAt: v.string(),
};
export const BulkJob = v.variant("action", [
  v.object({ action: v.picklist(["pause", "resume", "test"]), filter: MailboxFilter, ...started, ...progress }),
  v.object({ action: v.literal("resync"), since: v.string(), filter: MailboxFilter, ...started, ...progress }),
  v.object({ action: v.literal("replay"), filter: DeliveryFilter, ...started, ...progress }),
]);
export type BulkJob = v.InferOutput<typeof BulkJob>;
type OrderOf<J> = J extends BulkJob ? Omit<J, keyof typeof started | keyof typeof progress> : never;
/** What is to be done, and with which mailboxes or deliveries. */
export type BulkOrder = OrderOf<BulkJob>;
export type BulkProgress = { [K in keyof typeof progress]: v.InferOutput<(typeof progress)[K]> };

const Book = v.object({ jobs: v.array(BulkJob) });
const DOCUMENT = "bulk";
/** As many are kept, the running ones among them. */
const MAX_JOBS = 20;
/** As many run at once, so that the mailboxes and deliveries of others do not suffer. */
const MAX_RUNNING = 3;
/** Two nodes that change the document at the same moment try again. */
const MAX_WRITES = 20;

type Store = { documents: Documents };

/** The newest first. Empty if another version of the service wrote the document. */
export async function listJobs(store: Store): Promise<BulkJob[]> {
  return (await readBook(store)).jobs;
}

/** Adds a job. Throws `conflict` if this actor has one that runs, or if too many run. */
export async function addJob(store: Store, order: BulkOrder, actor: Actor): Promise<BulkJob> {
  const now = new Date(clock.now()).toISOString();
  const { id, name, scopes, mailboxPrefix } = actor;
  const job: BulkJob = {
    ...order,
    id: `bulk_${randomBytes(8).toString("hex")}`,
    actor: { id, name, scopes, mailboxPrefix },
    createdAt: now,
    state: "running",
    total: null,
    done: 0,
    failed: 0,
    problems: [],
    cause: null,
    after: null,
    node: null,
    stopRequested: false,
    updatedAt: now,
    endedAt: null,
  };
  await change(store, (jobs) => {
    const running = jobs.filter(({ state }) => state === "running");
    const own = running.find((one) => one.actor.id === id);
    if (own) throw busy(`This token has a bulk action that runs, ${own.id}. Wait for its end, or stop it.`);
    if (running.length >= MAX_RUNNING)
      throw busy(`${running.length} bulk actions run now, and no more at once. Try again when one has ended.`);
    return [job, ...running, ...jobs.filter(({ state }) => state !== "running")].slice(0, MAX_JOBS);
  });
  return job;
}

/** Changes the job as it is stored now. Undefined if it is not there any more. */
export async function updateJob(
  store: Store,
  id: string,
  update: (stored: BulkJob) => Partial<BulkProgress>,
): Promise<BulkJob | undefined> {
  let updated: BulkJob | undefined;
  await change(store, (jobs) =>
    jobs.map((one) => {
      if (one.id !== id) return one;
      updated = { ...one, ...update(one), updatedAt: new Date(clock.now()).toISOString() };
      return updated;
    }),
  );
  return updated;
}

async function readBook({ documents }: Store): Promise<{ jobs: BulkJob[]; revision: number }> {
  const stored = await documents.read(DOCUMENT);
  const parsed = stored && v.safeParse(Book, JSON.parse(stored.text));
  return { jobs: parsed?.success ? parsed.output.jobs : [], revision: stored?.revision ?? 0 };
}

async function change(store: Store, next: (jobs: BulkJob[]) => BulkJob[]): Promise<void> {
  for (let n = 0; n < MAX_WRITES; n++) {
    const { jobs, revision } = await readBook(store);
    const text = JSON.stringify({ jobs: next(jobs) });
    if (await store.documents.write(DOCUMENT, { revision, text })) return;
  }
  throw new Problem("store", "The list of bulk actions could not be written: other nodes change it all the time");
}

function busy(why: string): Problem {
  return new Problem("conflict", why, { retry: "later", fix: "`GET /api/v1/bulk` lists the bulk actions." });
}
