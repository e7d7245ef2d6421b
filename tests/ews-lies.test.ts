/** Exchange servers that lie by chance. */
import { testAgainstLiars } from "./lies/suite.ts";

testAgainstLiars("ews", 100);
