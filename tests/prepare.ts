/** Finds each server the suite needs, once and one after the other, so that whatever must be installed is there before any test runs. */
import { pythonWithExchangelib } from "./servers/exchangelib.ts";
import { makeReady, type ServiceName } from "./servers/provide.ts";
import { NGINX, PROMTOOL, findUnpacked } from "./servers/unpack.ts";
import { startService } from "./service.ts";

const NAMES: readonly ServiceName[] = ["dovecot", "greenmail", "redis", "rabbitmq", "chromium"];

for (const name of NAMES) {
  const where = await makeReady(name);
  if (where) console.log(`${name}: from ${where}`);
}

for (const packages of [PROMTOOL, NGINX]) if (await findUnpacked(packages)) console.log(`${packages.join()}: unpacked`);
await keepCompiled();
if (await pythonWithExchangelib()) console.log("exchangelib: from this machine");

/** Node keeps what it compiled when a process ends by itself, and most processes of the tests are killed. */
async function keepCompiled(): Promise<void> {
  const service = await startService({}, ["node_modules/node/bin/node"]);
  await service.stop();
  await service.end();
}
