/** What an administrator of Microsoft 365 does about a refusal, with the commands for Exchange Online PowerShell. */

/** Who asks for which mailbox. `clientId` is null for a mailbox that was given its token. */
export type Asker = { clientId: string | null; address: string };

/**
 * The two ways to give an application access: consent in Microsoft Entra for every mailbox, or RBAC for Applications for
 * some of them.
 */
export function accessFix({ clientId, address }: Asker): string {
  const app = clientId ?? "<client id>";
  return [
    "In Microsoft Entra grant the application permissions Mail.ReadWrite and Mail.Send with admin consent, for every mailbox of the tenant.",
    "Or grant nothing there and limit the application to some mailboxes, in Exchange Online PowerShell:",
    `New-ServicePrincipal -AppId ${app} -ObjectId <object id of the enterprise application> -DisplayName "Email Listener";`,
    `New-ManagementScope -Name "Email Listener" -RecipientRestrictionFilter "PrimarySmtpAddress -eq '${address}'";`,
    `New-ManagementRoleAssignment -App ${app} -Role "Application Mail.ReadWrite" -CustomResourceScope "Email Listener";`,
    `New-ManagementRoleAssignment -App ${app} -Role "Application Mail.Send" -CustomResourceScope "Email Listener";`,
    `Test-ServicePrincipalAuthorization -Identity ${app} -Resource ${address}`,
    "must then say InScope True. A change takes effect within two hours.",
  ].join(" ");
}

/** For 403 with "Access to OData is disabled". */
export function policyFix({ clientId, address }: Asker): string {
  return `Add ${address} to the group of the policy that \`Get-ApplicationAccessPolicy\` shows for ${clientId ?? "the application"} in Exchange Online PowerShell. A change takes effect after more than an hour.`;
}

export const USER_FIX =
  "Set `receive.user` to the user's object id or userPrincipalName, which may differ from the address. Check that the tenant is the mailbox's own.";

export const OTHER_TOKEN_FIX =
  "Check `receive.cloud` and the tenant. A token must be issued for Microsoft Graph in the mailbox's own cloud.";
