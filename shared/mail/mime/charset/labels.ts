/**
 * Names of charsets: the labels of the WHATWG Encoding Standard, and others that occur in mail. Each decoder is chosen
 * so that Bun and Node give the same text: their own decoders differ in Big5, EUC and Shift_JIS.
 */

/**
 * How a charset is decoded. Programs write `western` labels by default, whatever the text is. `thai` letters can look
 * like UTF-8.
 */
export type Charset =
  | { kind: "ascii" | "utf8" | "utf16" | "utf16le" | "utf16be" | "iso2022" | "hz" }
  | { kind: "single"; decoder: "native" | "iconv"; name: string; western: boolean; thai: boolean }
  | { kind: "multi"; decoder: "native" | "iconv"; name: string };

/** Single-byte charsets that every runtime decodes the same way. */
// prettier-ignore
const NATIVE_SINGLE: Record<string, string> = {
  "windows-1252": "iso88591 iso885911987 isoir100 l1 latin1 latin isolatin1 819 westerneuropean ansi ansix3",
  "windows-1250": "easteuropean centraleuropean", "windows-1251": "mscyrl ansi1251", "windows-1253": "msgreek",
  "windows-1254": "iso88599 iso885991989 isoir148 isolatin5 l5 latin5 turkish", "windows-1255": "mshebr",
  "windows-1256": "msarab", "windows-1257": "winbaltrim", "windows-1258": "vietnamese",
  "windows-874": "tis620 iso885911 dos874 thai tis6200 tis62025331 874",
  "iso-8859-2": "iso885921987 isoir101 isolatin2 l2 latin2", "iso-8859-3": "iso885931988 isoir109 isolatin3 l3 latin3",
  "iso-8859-4": "iso885941988 isoir110 isolatin4 l4 latin4 baltic",
  "iso-8859-5": "iso885951988 isoir144 isolatincyrillic cyrillic",
  "iso-8859-6": "iso885961987 isoir127 isolatinarabic arabic asmo708 ecma114 iso88596e iso88596i",
  "iso-8859-7": "iso885971987 isoir126 isolatingreek greek greek8 ecma118 elot928 suneugreek",
  "iso-8859-8": "iso885981988 isoir138 isolatinhebrew hebrew visual iso88598e iso88598i logical",
  "iso-8859-10": "isoir157 isolatin6 l6 latin6 iso8859101992", "iso-8859-13": "latin7", "iso-8859-14": "latin8 isoceltic",
  "iso-8859-15": "isolatin9 l9 latin9 latin0", "iso-8859-16": "latin10 l10",
  "koi8-r": "koi koi8 koi8r 878", "koi8-u": "koi8u koi8ru", ibm866: "866 cp866",
  macintosh: "mac macroman macosroman macwestern", "x-mac-cyrillic": "maccyrillic macukrainian macukraine",
};

/** Single-byte charsets that only iconv-lite knows. */
// prettier-ignore
const ICONV_SINGLE = [
  "cp437", "cp720", "cp737", "cp775", "cp808", "cp850", "cp852", "cp855", "cp856", "cp857", "cp858", "cp860", "cp861", "cp862",
  "cp863", "cp864", "cp865", "cp869", "cp922", "cp1046", "cp1124", "cp1125", "cp1129", "cp1133", "cp1161", "cp1162", "cp1163",
  "maccenteuro", "maccroatian", "macgreek", "maciceland", "macromania", "macthai", "macturkish", "koi8t", "armscii8", "rk1048",
  "tcvn", "georgianacademy", "georgianps", "pt154", "viscii", "iso646cn", "iso646jp", "hproman8", "mik",
];
// prettier-ignore
const ICONV_ALIASES: Record<string, string> = {
  macce: "maccenteuro", maccentraleurope: "maccenteuro", macicelandic: "maciceland", macromanian: "macromania",
  tcvn5712: "tcvn", roman8: "hproman8", strk10482002: "rk1048", kz1048: "rk1048", viscii11: "viscii",
  pc8codepage437: "cp437", pc850multilingual: "cp850", pc862latinhebrew: "cp862", cp00858: "cp858",
};

// prettier-ignore
const MULTI: Record<string, string> = {
  // gb2312 and GBK are decoded by their superset, because senders use it under these names.
  gb18030: "gb2312 gb231280 gb23121980 gbk chinese iso58gb231280 isoir58 euccn cngb 936 51936 54936 cngb231280 gb18 gb180302000 gb180302005",
  big5: "big5hkscs cnbig5 big5eten xbig5 big5tw 950 951",
  "euc-jp": "eucjp eucpkdfmtjapanese eucjpms 51932 20932 ujis eucjpwin",
  shift_jis: "shiftjis sjis mskanji windows31j 932 943 shiftjisx0213 sjisopen sjisdocomo sjiskddi sjissoftbank",
  "euc-kr": "euckr korean ksc5601 ksc56011987 ksc56011989 ksc5601 isoir149 uhc 949 51949 ksx1001 euccompatkr ksc56011992",
};

const OTHER: Record<Exclude<Charset["kind"], "single" | "multi">, string> = {
  ascii: "usascii ascii us iso646us isoir6 ansix341968 ansix341986 ansix34 ibm367 cp367 367 20127 7bit asciius 646",
  utf8: "utf8 utf8mb4 utf8mb3 utf8n unicode11utf8 unicode20utf8 utf8bom utf8sig 65001 utf utfeight unicodeutf8",
  utf16: "utf16 iso10646ucs2 ucs2 unicode 1200",
  utf16le: "utf16le unicodefeff ucs2le unicodelittle",
  utf16be: "utf16be unicodefffe ucs2be unicodebig 1201",
  iso2022:
    "iso2022jp iso2022jp1 iso2022jp2 iso2022jp3 iso2022jp2004 iso2022jpms junet jis 50220 50221 50222 iso2022kr 50225 iso2022cn iso2022cnext 50227 iso2022",
  hz: "hzgb2312 hz 52936",
};

const DECODED_BY_ICONV = new Set(["big5", "euc-jp", "shift_jis", "euc-kr"]);
const THAI = new Set(["windows-874", "macthai", "cp1161", "cp1162"]);
const WESTERN = new Set(["windows-1252", "iso-8859-15"]);

function single(decoder: "native" | "iconv", name: string): Charset {
  return { kind: "single", decoder, name, western: WESTERN.has(name), thai: THAI.has(name) };
}

/** By normalized label: in lower case, without separators and the prefixes `x-` and `cs`. */
const CHARSETS: ReadonlyMap<string, Charset> = new Map([
  ...Object.entries(NATIVE_SINGLE).flatMap(([name, labels]) => rows(single("native", name), name, labels)),
  ...ICONV_SINGLE.flatMap((name) => rows(single("iconv", name), name, name.replace(/^cp/, ""))),
  ...Object.entries(ICONV_ALIASES).map(([label, name]): [string, Charset] => [label, single("iconv", name)]),
  ...Object.entries(MULTI).flatMap(([name, labels]) =>
    rows({ kind: "multi", decoder: DECODED_BY_ICONV.has(name) ? "iconv" : "native", name }, name, labels),
  ),
  ...rows({ kind: "multi", decoder: "iconv", name: "utf-7" }, "utf-7", "unicode11utf7 unicode20utf7 65000"),
  ...rows({ kind: "multi", decoder: "iconv", name: "utf-7-imap" }, "utf-7-imap", ""),
  ...rows({ kind: "multi", decoder: "iconv", name: "utf-32" }, "utf-32", "iso10646ucs4 ucs4 12000"),
  ...rows({ kind: "multi", decoder: "iconv", name: "utf-32le" }, "utf-32le", "ucs4le"),
  ...rows({ kind: "multi", decoder: "iconv", name: "utf-32be" }, "utf-32be", "ucs4be 12001"),
  ...rows({ kind: "multi", decoder: "iconv", name: "cesu-8" }, "cesu-8", ""),
  ...Object.entries(OTHER).flatMap(([kind, labels]) => rows({ kind } as Charset, "", labels)),
]);

function rows(charset: Charset, name: string, labels: string): [string, Charset][] {
  const all = [name, ...labels.split(" ")].map(squeezeLabel).filter((label) => label !== "");
  return all.map((label) => [label, charset]);
}

/** Numbered families of labels, each with its name in the table above: `win-1251`, `x-cp-850`, `8859_2`. */
const FAMILIES: { label: RegExp; name: (number: string) => string }[] = [
  { label: /^(?:cp|windows|win|ms|ibm|dos|oem|ccsid|codepage|cswindows|csibm|pc|msdos)0*(\d{2,5})$/, name: (n) => n },
  { label: /^(125\d)$/, name: (n) => `windows${n}` },
  { label: /^(?:isolatin|isoiec|iso)?8859(\d{1,2})$/, name: (n) => `iso8859${n}` },
  { label: /^285(9[1-9]|0[1-6])$/, name: (n) => `iso8859${n.startsWith("9") ? n.slice(1) : 10 + Number(n.slice(1))}` },
  { label: /^20866$/, name: () => "koi8r" },
  { label: /^21866$/, name: () => "koi8u" },
  { label: /^10000$/, name: () => "macintosh" },
  { label: /^10007$/, name: () => "maccyrillic" },
  { label: /^10029$/, name: () => "maccenteuro" },
  { label: /^mac(?:os)?(\w+)$/, name: (n) => `mac${n}` },
];
const MAX_LABEL = 100;

/** The labels of nearly all mail, as they are written there. */
const COMMON: ReadonlyMap<string, Charset> = new Map(
  ["utf-8", "us-ascii", "iso-8859-1", "iso-8859-15", "windows-1252", "windows-1251", "gb2312", "iso-2022-jp"].flatMap(
    (label): [string, Charset][] => {
      const charset = CHARSETS.get(squeezeLabel(label));
      return charset ? [[label, charset]] : [];
    },
  ),
);

/**
 * The charset of a label. Undefined if it is unknown. Quotes, a language (RFC 2231), a repeated `charset=` and a stray
 * `3D` of quoted-printable are removed first.
 */
export function findCharset(label: string): Charset | undefined {
  const common = COMMON.get(label.slice(0, MAX_LABEL).toLowerCase());
  if (common) return common;
  const plain = label
    .slice(0, MAX_LABEL)
    .toLowerCase()
    .replace(/^[\s"'=]*(?:charset\s*=|3d)*[\s"'=]*/, "");
  const squeezed = squeezeLabel(/^[^\s"';,*$]*/.exec(plain)?.[0] ?? "");
  return squeezed === "" ? undefined : lookUp(squeezed, 3);
}

function lookUp(squeezed: string, tries: number): Charset | undefined {
  const found = CHARSETS.get(squeezed);
  if (found || tries === 0) return found;
  for (const { label, name } of FAMILIES) {
    const match = label.exec(squeezed);
    const renamed = match && name(match[1] ?? "");
    if (renamed && renamed !== squeezed) {
      const family = lookUp(renamed, tries - 1);
      if (family) return family;
    }
  }
  return undefined;
}

function squeezeLabel(label: string): string {
  return label
    .toLowerCase()
    .replace(/[^a-z0-9]/g, "")
    .replace(/^(?:x(?=[a-z])|xms|cs(?=[a-z]))+/, "");
}
