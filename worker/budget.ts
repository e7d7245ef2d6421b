/** A bound on the message bytes held in memory at one time. */

export interface Budget {
  /** Resolves with a release function once `bytes` fit; a message larger than the whole budget has it alone. */
  take(bytes: number, signal: AbortSignal): Promise<() => void>;
}

export function byteBudget(total: number): Budget {
  let free = total;
  const queue: { bytes: number; go: () => void }[] = [];
  const admit = () => {
    for (let first = queue[0]; first && first.bytes <= free; first = queue[0]) {
      queue.shift();
      free -= first.bytes;
      first.go();
    }
  };
  return {
    take(wanted, signal) {
      const bytes = Math.min(wanted, total);
      const release = () => {
        free += bytes;
        admit();
      };
      return new Promise((resolve, reject) => {
        const entry = { bytes, go: () => (signal.removeEventListener("abort", give), resolve(release)) };
        const give = () => {
          queue.splice(queue.indexOf(entry), 1);
          admit();
          reject(signal.reason);
        };
        if (signal.aborted) return reject(signal.reason);
        signal.addEventListener("abort", give, { once: true });
        queue.push(entry);
        admit();
      });
    },
  };
}
