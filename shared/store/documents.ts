/** Small documents that all nodes share. */

export type StoredDocument = { revision: number; text: string };

export interface Documents {
  /** Undefined if there is none of this name. */
  read(name: string): Promise<StoredDocument | undefined>;
  /**
   * Writes a document durably if the stored revision is still this one (0: there is none). Its revision then grows by 1.
   * False if somebody else changed it meanwhile.
   */
  write(name: string, document: StoredDocument): Promise<boolean>;
  /** The names of all documents. */
  listNames(): Promise<string[]>;
  /** Does nothing if there is none of this name. */
  remove(name: string): Promise<void>;
}
