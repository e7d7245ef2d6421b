/** Nobody waits behind a stranger, at one node on its embedded store. */
import { describe } from "node:test";
import { strangerPromises } from "./promises/strangers.ts";
import { embedded } from "./stories/strangers.ts";

describe("one node on its embedded store", () => {
  strangerPromises(() => embedded());
});
