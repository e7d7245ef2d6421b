/** Measures whether work takes time in proportion to the size of what it reads. */
import assert from "node:assert/strict";

const SIZE = 32 * 1024;
/** Doubled three times: eight times the bytes may cost eight times as much, and as much again for what is not the reader's (memory). */
const [DOUBLED, MOST] = [8, 16];
/** Less than this is not measured, in milliseconds of the processor. */
const NOTHING = 10;

/** The least that three runs cost, as time of the processor: what else the machine does counts little in it. */
async function costOf(work: () => unknown): Promise<number> {
  const costs: number[] = [];
  for (let time = 0; time < 3; time++) {
    const before = process.cpuUsage();
    await work();
    const { user, system } = process.cpuUsage(before);
    costs.push((user + system) / 1000);
  }
  return Math.min(...costs);
}

/** Fails when the work over the eightfold size costs far more than eight times that over the single one. */
export async function assertLinear<T>(make: (size: number) => T, work: (input: T) => unknown): Promise<void> {
  const [short, long] = [make(SIZE), make(SIZE * DOUBLED)];
  const small = await costOf(() => work(short));
  const large = await costOf(() => work(long));
  assert.ok(
    large <= Math.max(small, NOTHING) * MOST,
    `${small} ms for ${SIZE} bytes, ${large} ms for ${DOUBLED} times as many`,
  );
}
