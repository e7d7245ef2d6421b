/** Collects a text from very many small pieces. */

export type TextPieces = { add: (piece: string) => void; text: () => string };

/** So many pieces become one string at a time. A million strings take many times the memory of their text. */
const BATCH = 4096;

/** An empty text. */
export function textPieces(): TextPieces {
  const whole: string[] = [];
  let batch: string[] = [];
  const join = () => {
    whole.push(batch.join(""));
    batch = [];
  };
  return {
    add(piece) {
      if (batch.push(piece) === BATCH) join();
    },
    text() {
      join();
      return whole.join("");
    },
  };
}
