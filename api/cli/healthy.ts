#!/usr/local/bin/runtime
/** The health check of the image: ends with 0 if the process in this container is alive, else with 1. */
import process from "node:process";
import { readConfig } from "../../shared/config.ts";

/** Docker waits five seconds. */
const TIMEOUT_MS = 4_000;

async function isAlive(): Promise<boolean> {
  const { PORT } = readConfig({ PORT: process.env["PORT"] });
  const answer = await fetch(`http://127.0.0.1:${PORT}/healthz`, { signal: AbortSignal.timeout(TIMEOUT_MS) });
  return answer.ok;
}

if (import.meta.main) process.exitCode = (await isAlive().catch(() => false)) ? 0 : 1;
