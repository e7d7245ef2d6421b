/** Why a mailbox was not connected, in words for the person who tried. */

export type RefusalCode = keyof typeof REFUSALS;

/** `words` say more about this case, and `fix` takes the place of the usual one. */
export type Refusal = { refused: RefusalCode; words?: string; fix?: string };

/** Each refusal with the status and the words of its page. `again`: the same link may be opened again. */
export const REFUSALS = {
  unknown_link: {
    status: 404,
    title: "This link is not known",
    text: "It may be incomplete, or more than a day old.",
    fix: "Copy the whole link, or ask for a new one where you got it.",
    again: false,
  },
  expired_link: {
    status: 410,
    title: "This link has expired",
    text: "A link is valid for 30 minutes.",
    fix: "Ask for a new link where you got this one.",
    again: false,
  },
  used_link: {
    status: 410,
    title: "This link was used before",
    text: "A link connects a mailbox once, and this one has done so.",
    fix: "Nothing to do if you connected the mailbox. Otherwise ask for a new link.",
    again: false,
  },
  other_browser: {
    status: 400,
    title: "You came back in another browser",
    text: "The sign-in began in another browser, or this one does not keep cookies.",
    fix: "Open the link again, allow cookies for this page, and stay in one browser until the end.",
    again: false,
  },
  stale: {
    status: 400,
    title: "This sign-in is over",
    text: "It was finished already, or the link was opened once more after it.",
    fix: "Open the link again, and finish in the window that opens then.",
    again: false,
  },
  declined: {
    status: 400,
    title: "You did not agree",
    text: "The provider says that the access was declined.",
    fix: "Try again, and agree to what the provider lists. Otherwise the mailbox cannot be connected.",
    again: true,
  },
  admin_consent: {
    status: 400,
    title: "An administrator must agree first",
    text: "Your organization does not let its users agree to this by themselves.",
    fix: "Ask an administrator of your organization to agree for everybody. Then open the link again.",
    again: true,
  },
  no_refresh_token: {
    status: 400,
    title: "The provider gave no lasting access",
    text: "It let you sign in, but gave no refresh token. The access would end within an hour.",
    fix: "Remove this application from the list of applications with access to your account, then try again.",
    again: true,
  },
  permission_missing: {
    status: 400,
    title: "A permission is missing",
    text: "The provider did not give everything that the mailbox needs.",
    fix: "Try again, and leave all boxes ticked on the provider's page.",
    again: true,
  },
  other_account: {
    status: 400,
    title: "You signed in with another account",
    text: "The link is for another mailbox.",
    fix: "Try again, and choose the account that is named here.",
    again: true,
  },
  no_address: {
    status: 400,
    title: "The account has no proved address",
    text: "The provider did not name a verified mail address of the account.",
    fix: "Verify the address of the account at the provider, then try again.",
    again: true,
  },
  provider: {
    status: 502,
    title: "The provider refused",
    text: "The sign-in did not come to its end.",
    fix: "Try again in a while. If it stays so, tell whoever gave you the link what this page says.",
    again: true,
  },
  application: {
    status: 502,
    title: "The application is gone",
    text: "The application by which the mailbox was to be connected was removed or changed.",
    fix: "Tell whoever gave you the link what this page says.",
    again: false,
  },
  failed: {
    status: 502,
    title: "The mailbox could not be connected",
    text: "Something failed inside the service.",
    fix: "Ask for a new link. If it stays so, tell whoever gave you the link what this page says.",
    again: false,
  },
} as const;

/** Microsoft's numbers for "an administrator must consent", and other words for it. */
const ADMIN_NUMBERS = /\bAADSTS(65001|9009[345]\d?)\b/;
const ADMIN_ERRORS = new Set(["consent_required", "admin_policy_enforced", "org_internal"]);

/** What the provider's error means. Its words came through the browser, so only known forms of them are shown. */
export function refusalOf(error: string, description: string): Refusal {
  if (ADMIN_ERRORS.has(error) || ADMIN_NUMBERS.test(description)) return { refused: "admin_consent" };
  if (error === "access_denied") return { refused: "declined" };
  const [number] = /\bAADSTS\d{4,8}\b/.exec(description) ?? [];
  const code = /^[a-z_]{1,40}$/.test(error) ? error : "an unknown error";
  return { refused: "provider", words: `The provider says: ${[code, number].filter(Boolean).join(", ")}.` };
}
