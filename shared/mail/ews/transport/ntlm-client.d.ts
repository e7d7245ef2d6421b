/** Types for the part of the NTLM library that is used. The library has none. */
declare module "@ewsjs/ntlm-client" {
  type Challenge = {
    flags: number;
    encoding: "ascii" | "ucs2";
    /** 2 when the server agreed to NTLMv2. */
    version: 1 | 2;
    challenge: Buffer;
    targetName: string;
    targetInfo?: { parsed?: Record<string, string>; buffer?: Buffer };
  };
  const ntlm: {
    decodeType2Message(header: string): Challenge;
    createType3Message(
      challenge: Challenge,
      user: string,
      password: string,
      workstation: string,
      domain: string | undefined,
    ): string;
  };
  export default ntlm;
}
