/** A node that reports facts and ends in the same turn, in the way that its argument says. */
import { setTimeout as sleep } from "node:timers/promises";
import { readConfig } from "../../shared/config.ts";
import { openNode } from "../../shared/node.ts";

const { facts } = await openNode(readConfig({ DATA_DIR: ":memory:", NODE_ENV: "test" }), []);
const report = (about: string) => facts.emit({ kind: "service.warned", about });
report("first");
await sleep(50);
for (let n = 1; n <= 100; n++) report(`last ${n}`);
switch (process.argv[2]) {
  case "throws":
    throw new Error("A part of the test");
  case "throws in a callback":
    setTimeout(() => {
      report("later");
      throw new Error("A part of the test");
    });
    break;
  case "rejects":
    void Promise.reject(new Error("A part of the test"));
    break;
  default:
    process.exit(130);
}
