/** POP3 servers that lie by chance. */
import { testAgainstLiars } from "./lies/suite.ts";

testAgainstLiars("pop3", 100);
