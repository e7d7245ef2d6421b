#!/usr/local/bin/runtime
/** The command `restore FILE`: puts a backup of the store of a single node back. docs/operations.md shows it. */
import process from "node:process";
import { runStoreCommand } from "./store-command.ts";

if (import.meta.main) await runStoreCommand("restore", process.argv.slice(2));
