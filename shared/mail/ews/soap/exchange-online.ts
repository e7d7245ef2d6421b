/** Microsoft's own clouds: how they are told from other servers, and what their customers should know about Exchange Web Services there. */

/** Hosts of Exchange Online in its clouds: worldwide, US government and military, China, Germany. */
const CLOUDS =
  /(^|\.)(outlook\.com|office365\.com|office\.com|office365\.us|apps\.mil|partner\.outlook\.cn|outlook\.de|office\.de)$/i;

const LAST_DAY = "2027-04-01";

/** What to say about a server of Exchange Online, and what to do; undefined for every other one. */
export function onlineNotice(url: string): { cause: string; fix: string } | undefined {
  if (!CLOUDS.test(new URL(url).hostname)) return undefined;
  return {
    cause: `Microsoft ends Exchange Web Services in Exchange Online on ${LAST_DAY}, without exceptions; until then the tenant must allow them to this application (EWSEnabled, EWSAllowedAppIDs)`,
    fix: `Register the mailbox with protocol imap (outlook.office365.com, OAuth2 with IMAP.AccessAsApp) and send by smtp before ${LAST_DAY}. Exchange servers of one's own are not concerned.`,
  };
}
