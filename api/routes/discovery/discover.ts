/** /api/v1/mailboxes/discover: which servers a mail address has, before anybody types a password. */
import { Discovered, DiscoverInput } from "../../../shared/mail/discovery/proposal.ts";
import { consentProviderOf } from "../../../shared/mail/discovery/providers.ts";
import { jsonResponse, route, type Route } from "../../http/route.ts";
import type { ScopedDeps } from "../../scoped-deps.ts";

const TIMEOUT_MS = 30_000;

/** It comes before any `{id}` route, which would otherwise match it. */
export function discoveryRoutes({ store, discover }: Pick<ScopedDeps, "store" | "discover">): Route[] {
  return [
    route({
      method: "post",
      path: "/api/v1/mailboxes/discover",
      tag: "Mailboxes",
      scope: "manage",
      audited: false,
      summary: "Find the mail servers of an address",
      description:
        "Looks in a list of providers. For any other domain it asks, at the same time and for at most eight seconds: the MX records, the autoconfig file, the SRV records, and autodiscover without a login. " +
        "What the domain publishes is a proposal: show it with its `origin` to a person, who then types the password. Nothing is stored, and no password is sent anywhere.",
      body: DiscoverInput,
      responses: { 200: { description: "What was found, and where the service looked", schema: Discovered } },
      problems: [],
      async handle({ body: { address }, signal }) {
        const [{ steps, proposals }, applications] = await Promise.all([
          discover(address, signal(TIMEOUT_MS)),
          store.applications.list(),
        ]);
        const consentAt = (provider: ReturnType<typeof consentProviderOf>) =>
          provider === undefined
            ? null
            : { provider, applications: applications.filter((one) => one.provider === provider).map(({ id }) => id) };
        const answer: Discovered = {
          address,
          steps,
          proposals: proposals.map((one) => ({ ...one, consent: consentAt(consentProviderOf(one)) })),
        };
        return jsonResponse(answer);
      },
    }),
  ];
}
