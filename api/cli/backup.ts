#!/usr/local/bin/runtime
/** The command `backup FILE`: copies the store of a single node, also while the service runs. docs/operations.md shows it. */
import process from "node:process";
import { runStoreCommand } from "./store-command.ts";

if (import.meta.main) await runStoreCommand("backup", process.argv.slice(2));
