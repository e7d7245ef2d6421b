/** What every store promises, whatever it is made of. */
import { describe } from "node:test";
import type { Store } from "../../shared/store/store.ts";
import type { Vault } from "../../shared/store/vault.ts";
import { accessPromises } from "./stores-access.ts";
import { applicationPromises } from "./stores-applications.ts";
import { cursorPromises } from "./stores-cursors.ts";
import { deliveryPromises } from "./stores-deliveries.ts";
import { ledgerPromises } from "./stores-ledger.ts";
import { loginPromises } from "./stores-logins.ts";
import { mailboxPromises } from "./stores-mailboxes.ts";
import { measurePromises } from "./stores-measures.ts";
import { slotPromises } from "./stores-slots.ts";
import { outboxPromises } from "./outboxes.ts";

export type StoreSettings = { vault: Vault; windowDays: number; spoolBytes: number };

/** Opens an empty store of its own, with these settings or usual ones. */
export type NewStore = (settings?: Partial<StoreSettings>) => Promise<Store>;

/** Lets so many milliseconds pass for the store. */
export type Pass = (ms: number) => Promise<unknown>;

/** Runs `use` with a new store and closes it. */
export async function withStore(
  make: NewStore,
  use: (store: Store) => Promise<void>,
  settings: Partial<StoreSettings> = {},
): Promise<void> {
  const store = await make(settings);
  try {
    await use(store);
  } finally {
    await store.close();
  }
}

/** The suite: hold every implementation to it. */
export function storePromises(name: string, make: NewStore, pass: Pass): void {
  describe(name, () => {
    mailboxPromises(make);
    cursorPromises(make);
    ledgerPromises(make, pass);
    deliveryPromises(make, pass);
    outboxPromises(make, pass);
    slotPromises(make, pass);
    loginPromises(make);
    accessPromises(make);
    applicationPromises(make);
    measurePromises(make);
  });
}
