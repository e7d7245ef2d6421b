/** Reads lines and counted bytes from a socket that delivers chunks as it likes. */

const LONGEST_LINE = 1024 * 1024;

/** Collects chunks and hands them out as lines or byte counts; undefined means that the connection has ended. */
export class ByteReader {
  #chunks: Buffer[] = [];
  #length = 0;
  #ended = false;
  #wake: () => void = () => undefined;

  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    this.#wake();
  }

  end(): void {
    this.#ended = true;
    this.#wake();
  }

  /** Forgets what has arrived and was not read: what came in plain text must not count after STARTTLS. */
  discard(): void {
    this.#chunks = [];
    this.#length = 0;
  }

  /** The next line without its CRLF (a bare LF ends it as well). */
  async line(): Promise<Buffer | undefined> {
    let searched = 0;
    while (true) {
      const all = this.#joined();
      const end = all.indexOf(10, searched);
      if (end >= 0) {
        this.#keep(all.subarray(end + 1));
        return all.subarray(0, all[end - 1] === 13 ? end - 1 : end);
      }
      searched = all.length;
      if (this.#ended || searched > LONGEST_LINE) return undefined;
      await this.#more();
    }
  }

  /** Exactly so many bytes. */
  async bytes(count: number): Promise<Buffer | undefined> {
    while (this.#length < count) {
      if (this.#ended) return undefined;
      await this.#more();
    }
    const all = this.#joined();
    this.#keep(all.subarray(count));
    return all.subarray(0, count);
  }

  #joined(): Buffer {
    if (this.#chunks.length !== 1) this.#chunks = [Buffer.concat(this.#chunks)];
    return this.#chunks[0] ?? Buffer.alloc(0);
  }

  #keep(rest: Buffer): void {
    this.#chunks = rest.length > 0 ? [rest] : [];
    this.#length = rest.length;
  }

  #more(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}
