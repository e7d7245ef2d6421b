/** What expires soon, as far as the service can know it. */
import * as v from "valibot";
import type { Application } from "../../shared/contract/application.ts";
import type { Token } from "../../shared/contract/token.ts";
import { clock } from "../../shared/time.ts";
import { type Check, type CheckCall, countOf, notRun } from "./check.ts";
import { certificateOf, expiryOf } from "../expiry.ts";
import type { Survey } from "./survey.ts";
import type { Visits } from "./visits.ts";

/** `urgent`: something stops to work on that day, and nobody but a person changes that. */
export const Expiry = v.object({ what: v.string(), until: v.string(), urgent: v.boolean(), fix: v.string() });
export type Expiry = v.InferOutput<typeof Expiry>;

const DAY_MS = 24 * 3_600_000;
const SOON_MS = 30 * DAY_MS;
/** Certificates of web servers are renewed by programs, usually weeks before. */
const TLS_URGENT_MS = 7 * DAY_MS;
/** So many of those that end later are shown. */
const MAX_LATER = 50;
const EWS_END = "2027-03-31";

type Sources = {
  applications: Application[];
  tokens: Pick<Token, "id" | "name" | "expiresAt">[];
  survey: Survey;
  visits: Visits;
};

export const expiryCheck: Check = {
  title: "What expires within 30 days",
  seconds: 45,
  async run(call) {
    const sources = await readSources(call);
    const all = listExpiries(sources);
    const soon = all.filter(isSoon);
    const later = all.filter((one) => !isSoon(one)).slice(0, MAX_LATER);
    const known = countKnown(sources);
    if (known === 0) return notRun("Nothing is known that expires on a day");
    const data = { items: soon, later, known };
    const [first, ...more] = soon.filter(({ urgent }) => urgent);
    const warnings = soon.filter((one) => one !== first).map(({ what, until }) => `${what}: ${whenOf(until)}`);
    if (!first)
      return {
        status: "ok",
        detail: `${countOf(known, "date is", "dates are")} known, none needs a person now`,
        warnings,
        data,
      };
    const others = more.length > 0 ? `, and ${more.length} more` : "";
    return {
      status: "failed",
      cause: `${first.what}: ${whenOf(first.until)}${others}`,
      fix: first.fix,
      warnings,
      data,
    };
  },
};

async function readSources({ deps: { store }, ...call }: CheckCall): Promise<Sources> {
  const [applications, { tokens }, survey, visits] = await Promise.all([
    store.applications.list(),
    store.tokens.list(),
    call.survey(),
    call.visits(),
  ]);
  return { applications, tokens, survey, visits };
}

function whenOf(until: string): string {
  const day = until.slice(0, 10);
  return Date.parse(until) < clock.now() ? `expired on ${day}` : `expires on ${day}`;
}

function countKnown({ applications, tokens, survey, visits }: Sources): number {
  const certified = applications.filter((one) => certificateOf(one) !== undefined).length;
  const limited = tokens.filter(({ expiresAt }) => expiresAt !== null).length;
  const servers = visits.visits.filter(({ certificateUntil }) => certificateUntil !== null).length;
  return certified + limited + servers + survey.certificates.length + (survey.onlineEws > 0 ? 1 : 0);
}

function isSoon({ until }: Expiry): boolean {
  return Date.parse(until) - clock.now() < SOON_MS;
}

/** Everything with a known date, the earliest first. */
function listExpiries({ applications, tokens, survey, visits }: Sources): Expiry[] {
  const now = clock.now();
  const list: Expiry[] = [
    ...applications.flatMap((application): Expiry[] => {
      const { id } = application;
      const certificate = certificateOf(application);
      const until = certificate === undefined ? null : expiryOf(certificate);
      const fix = `Register a new certificate at the provider, then PUT /api/v1/applications/${id}.`;
      return until
        ? [{ what: `The certificate of the application ${id}`, until: until.toISOString(), urgent: true, fix }]
        : [];
    }),
    ...tokens.flatMap(({ name, id, expiresAt }): Expiry[] => {
      const fix = "Whoever uses it needs a new one: POST /api/v1/tokens.";
      return expiresAt === null ? [] : [{ what: `The token ${name} (${id})`, until: expiresAt, urgent: false, fix }];
    }),
    ...survey.certificates.map(({ mailbox, use, until }): Expiry => {
      const fix = "Save the mailbox with the new certificate: PATCH /api/v1/mailboxes/{id}.";
      return { what: `Mailbox ${mailbox}: ${use}`, until: until.toISOString(), urgent: true, fix };
    }),
    ...visits.visits.flatMap(({ origin, certificateUntil }): Expiry[] => {
      if (certificateUntil === null) return [];
      const urgent = certificateUntil.getTime() - now < TLS_URGENT_MS;
      const fix = "Renew the certificate of that server.";
      return [{ what: `The TLS certificate of ${origin}`, until: certificateUntil.toISOString(), urgent, fix }];
    }),
  ];
  if (survey.onlineEws > 0) {
    const what = `Exchange Online by EWS (${countOf(survey.onlineEws, "mailbox", "mailboxes")})`;
    const fix = "Microsoft switches EWS off after that day. Register these mailboxes with the protocol graph before.";
    list.push({ what, until: `${EWS_END}T23:59:59.000Z`, urgent: true, fix });
  }
  return list.toSorted((a, b) => (a.until < b.until ? -1 : 1));
}
