/** IMAP servers that lie by chance. */
import { testAgainstLiars } from "./lies/suite.ts";

testAgainstLiars("imap", 50);
