/**
 * Microsoft's own clouds: how to recognise them, and what administrators must know about Exchange Web Services there.
 */

/** Hosts of Exchange Online in its clouds: worldwide, US government and military, China, Germany. */
const EXCHANGE_ONLINE_HOSTS =
  /(^|\.)(outlook\.com|office365\.com|office\.com|office365\.us|apps\.mil|partner\.outlook\.cn|outlook\.de|office\.de)$/i;

const EWS_END_DATE = "2027-04-01";

/** True for a URL in one of Microsoft's clouds. */
export function isExchangeOnline(url: string): boolean {
  return EXCHANGE_ONLINE_HOSTS.test(new URL(url).hostname);
}

/** The warning and the remedy for a server of Exchange Online; undefined for every other server. */
export function exchangeOnlineNotice(url: string): { cause: string; fix: string } | undefined {
  if (!isExchangeOnline(url)) return undefined;
  return {
    cause: `Microsoft ends Exchange Web Services in Exchange Online on ${EWS_END_DATE}, without exceptions. Until then the tenant must allow them for this application (EWSEnabled, EWSAllowedAppIDs)`,
    fix: `Move the mailbox to Microsoft Graph before ${EWS_END_DATE}: bun run cli mailbox move-to-graph, or POST /api/v1/mailboxes/{id}/move-to-graph. Until then set the list of applications first (Set-OrganizationConfig -EwsAllowedAppIDs, which replaces the whole list), then -EwsEnabled $true; an empty list blocks all. Exchange servers of your own are not affected.`,
  };
}
