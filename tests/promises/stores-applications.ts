/** What every store promises about registered applications. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  APPLICATION_SECRETS,
  type Application,
  type MicrosoftApplication,
  proofOf,
  versionOf,
} from "../../shared/contract/application.ts";
import { Secret } from "../../shared/contract/secret.ts";
import { mailboxOf } from "./samples.ts";
import { type NewStore, withStore } from "./stores.ts";

export function applicationOf(id: string, more: Partial<MicrosoftApplication> = {}): MicrosoftApplication {
  return {
    id,
    provider: "microsoft",
    tenant: "contoso.com",
    clientId: "client",
    clientSecret: new Secret(`secret of ${id}`),
    cloud: "global",
    revision: 0,
    createdAt: "2026-11-01T00:00:00.000Z",
    updatedAt: "2026-11-01T00:00:00.000Z",
    ...more,
  };
}

/** With the secrets in clear, because a `Secret` equals another whatever it holds. */
const clear = (application: Application | undefined) => ({
  ...application,
  ...Object.fromEntries(APPLICATION_SECRETS.map((name) => [name, application && proofOf(application)[name]?.reveal()])),
});

export function applicationPromises(make: NewStore): void {
  test("an application is there with its secrets until it is removed, and its revision grows", () =>
    withStore(make, async ({ applications }) => {
      const pair = { certificate: "-----BEGIN CERTIFICATE-----", privateKey: new Secret("a key") };
      const { clientSecret: _, ...second } = applicationOf("a.b_c", pair);
      const first = applicationOf("contoso");
      assert.deepEqual(clear(await applications.put(first)), clear({ ...first, revision: 1 }));
      await applications.put(second);
      assert.deepEqual(clear(await applications.get("contoso")), clear({ ...first, revision: 1 }));
      assert.deepEqual((await applications.list()).map(clear), [
        clear({ ...second, revision: 1 }),
        clear({ ...first, revision: 1 }),
      ]);
      const changed = { ...first, clientSecret: new Secret("another"), tenant: "fabrikam.com", revision: 1 };
      assert.equal((await applications.put(changed)).revision, 2);
      assert.deepEqual(clear(await applications.get("contoso")), clear({ ...changed, revision: 2 }));
      assert.deepEqual([...(await applications.listVersions())].toSorted(), [
        ["a.b_c", versionOf({ ...second, revision: 1 })],
        ["contoso", versionOf({ ...changed, revision: 2 })],
      ]);
      assert.deepEqual([await applications.remove("contoso"), await applications.remove("contoso")], [true, false]);
      assert.equal(await applications.get("contoso"), undefined);
      assert.deepEqual([...(await applications.listVersions()).keys()], ["a.b_c"]);
      assert.equal((await applications.put(first)).revision, 1);
    }));

  test("of several changes to one revision of an application one is made, and an unknown one is no base", () =>
    withStore(make, async ({ applications }) => {
      await assert.rejects(applications.put(applicationOf("x", { revision: 1 })), { code: "conflict" });
      const puts = ["a", "b", "c"].map((tenant) => applications.put(applicationOf("x", { tenant: `${tenant}.com` })));
      const results = await Promise.allSettled(puts);
      assert.equal(results.filter(({ status }) => status === "fulfilled").length, 1);
      assert.equal((await applications.get("x"))?.revision, 1);
    }));

  test("the mailboxes that name an application are counted", () =>
    withStore(make, async ({ applications, mailboxes }) => {
      const { receive: imap } = mailboxOf("x");
      const { folders, since, mode, poll, processLock } = imap;
      const common = { folders, since, mode, poll, processLock };
      const of = (id: string, application: string) => ({
        ...mailboxOf(id),
        receive: { protocol: "graph" as const, auth: { application }, ...common },
      });
      await applications.put(applicationOf("contoso"));
      await mailboxes.put(mailboxOf("imap"));
      for (const id of ["a", "b"]) await mailboxes.put(of(id, "contoso"));
      await mailboxes.put(of("c", "contoso2"));
      assert.deepEqual(
        [await applications.countMailboxes("contoso"), await applications.countMailboxes("con")],
        [2, 0],
      );
      assert.deepEqual((await mailboxes.get("a"))?.mailbox.receive.auth, { application: "contoso" });
      await mailboxes.remove("a");
      assert.equal(await applications.countMailboxes("contoso"), 1);
    }));
}
