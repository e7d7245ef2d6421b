/**
 * Letters with quotations and signatures as mail programs write them in fourteen languages. Each has what its sender wrote; the rest is
 * made of the programs' own words. All persons are made up.
 */

export type ReplyLetter = { name: string; text: string; reply: string | null };

type Words = {
  language: string;
  /** What the sender wrote. */
  own: string;
  quoted: string;
  /** The line above the quotation, by program. */
  gmail: string;
  apple: string;
  thunderbird: string;
  yahoo: string;
  /** From, sent, to, subject. */
  outlook: [string, string, string, string];
  original: string;
  mobile: string[];
};

// prettier-ignore
const WORDS: Words[] = [
  { language: "English", own: "Thank you, Tuesday suits me.", quoted: "Would Tuesday suit you?",
    gmail: "On Mon, Jan 5, 2026 at 10:00 AM Jane Roe <jane@example.com> wrote:", apple: "On 5 Jan 2026, at 10:00, Jane Roe <jane@example.com> wrote:",
    thunderbird: "On 05/01/2026 10:00, Jane Roe wrote:", yahoo: "On Monday, January 5, 2026 at 10:00:00 AM GMT+1, Jane Roe <jane@example.com> wrote:",
    outlook: ["From", "Sent", "To", "Subject"], original: "-----Original Message-----",
    mobile: ["Sent from my iPhone", "Get Outlook for iOS<https://aka.ms/o0ukef>", "Sent from Yahoo Mail on Android", "Sent from Mail for Windows", "Sent with Proton Mail secure email."] },
  { language: "German", own: "Danke, Dienstag passt mir gut.", quoted: "Passt Ihnen Dienstag?",
    gmail: "Am Mo., 5. Jan. 2026 um 10:00 Uhr schrieb Jane Roe <jane@example.com>:", apple: "Am 05.01.2026 um 10:00 schrieb Jane Roe <jane@example.com>:",
    thunderbird: "Am 05.01.26 um 10:00 schrieb Jane Roe:", yahoo: "Am Montag, 5. Januar 2026 um 10:00:00 MEZ hat Jane Roe <jane@example.com> Folgendes geschrieben:",
    outlook: ["Von", "Gesendet", "An", "Betreff"], original: "-----Ursprüngliche Nachricht-----",
    mobile: ["Von meinem iPhone gesendet", "Gesendet von Outlook für Android", "Gesendet mit der GMX iPhone App", "Von meinem Samsung Galaxy Smartphone gesendet."] },
  { language: "French", own: "Merci, mardi me convient.", quoted: "Mardi vous convient-il ?",
    gmail: "Le lun. 5 janv. 2026 à 10:00, Jane Roe <jane@example.com> a écrit :", apple: "Le 5 janv. 2026 à 10:00, Jane Roe <jane@example.com> a écrit :",
    thunderbird: "Le 05/01/2026 à 10:00, Jane Roe a écrit :", yahoo: "Le lundi 5 janvier 2026 à 10:00:00 UTC+1, Jane Roe <jane@example.com> a écrit :",
    outlook: ["De", "Envoyé", "À", "Objet"], original: "-----Message d'origine-----",
    mobile: ["Envoyé de mon iPhone", "Télécharger Outlook pour Android", "Envoyé depuis mon téléphone"] },
  { language: "Spanish", own: "Gracias, el martes me va bien.", quoted: "¿Le va bien el martes?",
    gmail: "El lun, 5 ene 2026 a las 10:00, Jane Roe (<jane@example.com>) escribió:", apple: "El 5 ene 2026, a las 10:00, Jane Roe <jane@example.com> escribió:",
    thunderbird: "El 5/1/26 a las 10:00, Jane Roe escribió:", yahoo: "El lunes, 5 de enero de 2026, 10:00:00 CET, Jane Roe <jane@example.com> escribió:",
    outlook: ["De", "Enviado el", "Para", "Asunto"], original: "-----Mensaje original-----",
    mobile: ["Enviado desde mi iPhone", "Obtener Outlook para iOS"] },
  { language: "Italian", own: "Grazie, martedì va bene.", quoted: "Le va bene martedì?",
    gmail: "Il giorno lun 5 gen 2026 alle ore 10:00 Jane Roe <jane@example.com> ha scritto:", apple: "Il giorno 5 gen 2026, alle ore 10:00, Jane Roe <jane@example.com> ha scritto:",
    thunderbird: "Il 05/01/2026 10:00, Jane Roe ha scritto:", yahoo: "Il lunedì 5 gennaio 2026 alle ore 10:00:00 CET, Jane Roe <jane@example.com> ha scritto:",
    outlook: ["Da", "Inviato", "A", "Oggetto"], original: "-----Messaggio originale-----",
    mobile: ["Inviato da iPhone", "Ottieni Outlook per Android"] },
  { language: "Portuguese", own: "Obrigada, terça-feira está bem.", quoted: "Terça-feira está bem para si?",
    gmail: "Em seg., 5 de jan. de 2026 às 10:00, Jane Roe <jane@example.com> escreveu:", apple: "No dia 5 de jan. de 2026, às 10:00, Jane Roe <jane@example.com> escreveu:",
    thunderbird: "Em 05/01/2026 10:00, Jane Roe escreveu:", yahoo: "Em segunda-feira, 5 de janeiro de 2026 10:00:00 WET, Jane Roe <jane@example.com> escreveu:",
    outlook: ["De", "Enviada em", "Para", "Assunto"], original: "-----Mensagem original-----",
    mobile: ["Enviado do meu iPhone", "Obter o Outlook para Android"] },
  { language: "Dutch", own: "Dank u, dinsdag komt goed uit.", quoted: "Komt dinsdag u goed uit?",
    gmail: "Op ma 5 jan 2026 om 10:00 schreef Jane Roe <jane@example.com>:", apple: "Op 5 jan 2026 om 10:00 heeft Jane Roe <jane@example.com> het volgende geschreven:",
    thunderbird: "Op 05-01-2026 om 10:00 schreef Jane Roe:", yahoo: "Op maandag 5 januari 2026 om 10:00:00 CET schreef Jane Roe <jane@example.com>:",
    outlook: ["Van", "Verzonden", "Aan", "Onderwerp"], original: "-----Oorspronkelijk bericht-----",
    mobile: ["Verstuurd vanaf mijn iPhone", "Outlook voor Android downloaden"] },
  { language: "Russian", own: "Спасибо, вторник подходит.", quoted: "Вам подходит вторник?",
    gmail: "пн, 5 янв. 2026 г. в 10:00, Jane Roe <jane@example.com>:", apple: "5 янв. 2026 г., в 10:00, Jane Roe <jane@example.com> написал(а):",
    thunderbird: "05.01.2026 10:00, Jane Roe пишет:", yahoo: "Понедельник, 5 января 2026, 10:00 +03:00 от Jane Roe <jane@example.com>:",
    outlook: ["От", "Отправлено", "Кому", "Тема"], original: "-----Исходное сообщение-----",
    mobile: ["Отправлено с iPhone", "Отправлено из мобильной Почты Mail.ru"] },
  { language: "Ukrainian", own: "Дякую, вівторок підходить.", quoted: "Вам підходить вівторок?",
    gmail: "пн, 5 січ. 2026 р. о 10:00 Jane Roe <jane@example.com> пише:", apple: "5 січ. 2026 р. о 10:00 Jane Roe <jane@example.com> написав(ла):",
    thunderbird: "05.01.26 10:00, Jane Roe пише:", yahoo: "У понеділок, 5 січня 2026 р., 10:00 Jane Roe <jane@example.com> написав:",
    outlook: ["Від", "Надіслано", "Кому", "Тема"], original: "-----Оригінальне повідомлення-----",
    mobile: ["Надіслано з iPhone", "Надіслано з мобільного телефону"] },
  { language: "Polish", own: "Dziękuję, wtorek mi odpowiada.", quoted: "Czy wtorek odpowiada?",
    gmail: "pon., 5 sty 2026 o 10:00 Jane Roe <jane@example.com> napisał(a):", apple: "Wiadomość napisana przez Jane Roe <jane@example.com> w dniu 5 sty 2026, o godz. 10:00:",
    thunderbird: "W dniu 05.01.2026 o 10:00, Jane Roe pisze:", yahoo: "W dniu poniedziałek, 5 stycznia 2026 10:00:00 CET Jane Roe <jane@example.com> napisał(a):",
    outlook: ["Od", "Wysłano", "Do", "Temat"], original: "-----Wiadomość oryginalna-----",
    mobile: ["Wysłane z iPhone'a", "Pobierz program Outlook dla systemu iOS"] },
  { language: "Czech", own: "Děkuji, úterý mi vyhovuje.", quoted: "Vyhovuje vám úterý?",
    gmail: "po 5. 1. 2026 v 10:00 odesílatel Jane Roe <jane@example.com> napsal:", apple: "5. 1. 2026 v 10:00, Jane Roe <jane@example.com> napsal(a):",
    thunderbird: "Dne 05. 01. 26 v 10:00 Jane Roe napsal(a):", yahoo: "Dne pondělí 5. ledna 2026 10:00:00 Jane Roe <jane@example.com> napsal(a):",
    outlook: ["Od", "Odesláno", "Komu", "Předmět"], original: "-----Původní zpráva-----",
    mobile: ["Odesláno z iPhonu", "Získejte Outlook pro Android"] },
  { language: "Turkish", own: "Teşekkürler, salı uygun.", quoted: "Salı size uygun mu?",
    gmail: "Jane Roe <jane@example.com>, 5 Oca 2026 Pzt, 10:00 tarihinde şunu yazdı:", apple: "Jane Roe <jane@example.com> şunları yazdı (5 Oca 2026 10:00):",
    thunderbird: "On 05.01.2026 10:00, Jane Roe yazdı:", yahoo: "5 Ocak 2026 Pazartesi 10:00:00 GMT+3 tarihinde Jane Roe <jane@example.com> şunu yazdı:",
    outlook: ["Kimden", "Gönderildi", "Kime", "Konu"], original: "-----Özgün İleti-----",
    mobile: ["iPhone'umdan gönderildi", "Android için Outlook'u edinin"] },
  { language: "Japanese", own: "ありがとうございます。火曜日で結構です。", quoted: "火曜日はいかがですか。",
    gmail: "2026年1月5日(月) 10:00 Jane Roe <jane@example.com>:", apple: "2026/01/05 10:00、Jane Roe <jane@example.com>のメール:",
    thunderbird: "On 2026/01/05 10:00, Jane Roe wrote:", yahoo: "2026年1月5日月曜日 10:00:00 JST、Jane Roe <jane@example.com>さんは書きました:",
    outlook: ["差出人", "送信日時", "宛先", "件名"], original: "-----元のメッセージ-----",
    mobile: ["iPhoneから送信", "Outlook for iOS を入手"] },
  { language: "Chinese", own: "谢谢，周二可以。", quoted: "周二可以吗？",
    gmail: "Jane Roe <jane@example.com> 于2026年1月5日周一 10:00写道：", apple: "在 2026年1月5日，10:00，Jane Roe <jane@example.com> 写道：",
    thunderbird: "在 2026/1/5 10:00, Jane Roe 写道:", yahoo: "在 2026年1月5日星期一 GMT+8 10:00:00， Jane Roe <jane@example.com> 写道：",
    outlook: ["发件人", "发送时间", "收件人", "主题"], original: "------------------ 原始邮件 ------------------",
    mobile: ["发自我的 iPhone", "获取 Outlook for iOS"] },
];

const quote = (text: string) =>
  text
    .split("\n")
    .map((line) => (line === "" ? ">" : `> ${line}`))
    .join("\n");

function letters({
  language,
  own,
  quoted,
  gmail,
  apple,
  thunderbird,
  yahoo,
  outlook,
  original,
  mobile,
}: Words): ReplyLetter[] {
  const more = `${quoted}\n\n--\nJane Roe`;
  const [from, sent, to, subject] = outlook;
  const fields = `${from}: Jane Roe <jane@example.com>\n${sent}: 5.1.2026 10:00\n${to}: John Doe <john@example.org>\n${subject}: Re: 4711`;
  const bold = fields.replace(/^([^:]+):/gm, "*$1:*");
  const wrapped = gmail.replace(/ (?=<)/, "\n");
  const letter = (name: string, text: string, reply: string | null = own): ReplyLetter => ({
    name: `${language}, ${name}`,
    text,
    reply,
  });
  return [
    letter("Gmail", `${own}\n\n${gmail}\n\n${quote(more)}\n`),
    letter("Gmail with a wrapped line", `${own}\n\n${wrapped}\n\n${quote(more)}\n`),
    letter("Gmail without signs of quotation", `${own}\n\n${gmail}\n\n${more}\n`),
    letter("Apple Mail", `${own}\n\n${quote(`${apple}\n\n${more}`)}\n`),
    letter("Apple Mail with the announcement outside", `${own}\n\n${apple}\n\n${quote(more)}\n`),
    letter("Thunderbird, above", `${own}\n\n-- \nJohn Doe\nExample Ltd\n\n${thunderbird}\n${quote(more)}\n`),
    letter("Thunderbird, below", `${thunderbird}\n${quote(more)}\n\n${own}\n\n-- \nJohn Doe\n`),
    letter(
      "Thunderbird, between",
      `${thunderbird}\n${quote("One?")}\n${own}\n\n${quote("Two?")}\n4711\n`,
      `${own}\n\n4711`,
    ),
    letter("Yahoo", `${own}\n\n    ${yahoo} \n\n ${quote(more)}\n`),
    letter("Outlook", `${own}\n\n${fields}\n\n${more}\n`),
    letter("Outlook with a line above", `${own}\n\n________________________________\n${fields}\n\n${more}\n`),
    letter("Outlook as Gmail shows it", `${own}\n\n${bold}\n\n${more}\n`),
    letter("Outlook of old", `${own}\n\n${original}\n${fields}\n\n${more}\n`),
    ...mobile.map((line) => letter(`with "${line}"`, `${own}\n\n${line}\n\n${gmail}\n\n${quote(more)}\n`)),
    letter("without quotation", `${own}\n`),
    letter("only the quotation", `${gmail}\n\n${quote(more)}\n`, null),
  ];
}

export const replyLetters: ReplyLetter[] = WORDS.flatMap(letters);

const plain = (name: string, text: string, reply: string | null): ReplyLetter => ({ name, text, reply });

/** Letters in which something only looks like a quotation, a signature or an announcement. */
export const oddLetters: ReplyLetter[] = [
  plain(
    "a colon at the end of a line is no announcement",
    "Please order:\n\n2 chairs\n1 table",
    "Please order:\n\n2 chairs\n1 table",
  ),
  plain(
    "somebody wrote, in the middle of a letter",
    "As Jane wrote: we need it by 10:00.\nBye",
    "As Jane wrote: we need it by 10:00.\nBye",
  ),
  plain(
    "who wrote what, in the letter itself",
    "Am Montag um 10:00 schrieben Sie uns folgendes:\nDer Stuhl ist rot.",
    "Am Montag um 10:00 schrieben Sie uns folgendes:\nDer Stuhl ist rot.",
  ),
  plain("a label alone is no header", "From: the left\nGo straight on.", "From: the left\nGo straight on."),
  plain(
    "a journey with from, to and date",
    "Please book:\nFrom: Berlin\nTo: Hamburg\nDate: 5 May",
    "Please book:\nFrom: Berlin\nTo: Hamburg\nDate: 5 May",
  ),
  plain(
    "the announcement of Zoho",
    "Fine.\n\n---- On Mon, 05 Jan 2026 10:00:00 +0100 jane@example.com wrote ----\n\nHello",
    "Fine.",
  ),
  plain("the announcement of Yandex", "Fine.\n\n10:00, 5 January 2026, Jane Roe <jane@example.com>:\n\nHello", "Fine."),
  plain("a dash in a list", "We need\n-- a chair\n-- a table", "We need\n-- a chair\n-- a table"),
  plain(
    "two dashes in front of a long text",
    `Summary\n--\n${Array.from({ length: 20 }, (_, at) => `Line ${at}`).join("\n")}`,
    `Summary\n--\n${Array.from({ length: 20 }, (_, at) => `Line ${at}`).join("\n")}`,
  ),
  plain(
    "a telephone in the middle",
    "Sent from my iPhone\nis what stands below my letters. Why?",
    "Sent from my iPhone\nis what stands below my letters. Why?",
  ),
  plain(
    "a forwarded message below a note",
    "See below.\n\n---------- Forwarded message ---------\nFrom: Jane Roe <jane@example.com>\nDate: Mon, 5 Jan 2026\nSubject: 4711\nTo: John\n\nHello",
    "See below.",
  ),
  plain(
    "a forwarded message alone",
    "---------- Forwarded message ---------\nFrom: Jane Roe <jane@example.com>\nDate: Mon, 5 Jan 2026\n\nHello",
    null,
  ),
  plain(
    "a forwarded message of Apple Mail",
    "For you.\n\nBegin forwarded message:\n\n> From: Jane Roe <jane@example.com>\n> Subject: 4711\n> \n> Hello",
    "For you.",
  ),
  plain(
    "a footer of a mailing list",
    "Thanks!\n\n_______________________________________________\nList mailing list\nlist@example.org",
    "Thanks!",
  ),
  plain(
    "a text signed by PGP",
    "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nThank you.\n- -- \nJohn\n-----BEGIN PGP SIGNATURE-----\n\niQEz\n-----END PGP SIGNATURE-----",
    "Thank you.",
  ),
  plain("a text encrypted by PGP", "-----BEGIN PGP MESSAGE-----\n\nhQEMA0123456789ab\n-----END PGP MESSAGE-----", null),
  plain("nothing at all", " \n\n", null),
  plain("answers between the lines of an unannounced quotation", "> One?\nYes.\n> Two?\nNo.", "Yes.\n\nNo."),
  plain(
    "a German letter that ends with mail",
    "Von der Firma kam gestern noch eine Mail",
    "Von der Firma kam gestern noch eine Mail",
  ),
];
