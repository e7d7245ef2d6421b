/**
 * How mail programs announce a quotation, a forwarded message or themselves, in the languages of most mail: English,
 * German, French, Spanish, Italian, Portuguese, Dutch, Russian, Ukrainian, Polish, Czech, Turkish, Japanese and
 * Chinese.
 */

/** The end of the line before a quotation: "... wrote:", with the words that may follow. */
export const WROTE =
  /(wrote|writes|schrieb|geschrieben|a [ée]crit|escribi[óo]|ha scritto|escreveu|schreef|geschreven|написал(\(а\)|а)?|пишет|пише|написав(\(ла\)|ла)?|pisze|napisał(\(a\)|a)?|napisana przez|napsal(\(a\)|a)?|yazdı|skrev|kirjoitti|írta|a scris|写道|寫道|書きました|のメール).{0,160}[:：]\s*$/iu;

/** The start of that line: a preposition, a day of the week or a date. */
export const OPENS =
  /^[\s*_"'([]*(on|at|am|le|el|il|em|no dia|op|w dniu|dnia|dne|den|wiadomość|vom|von|from|den|kl|в|від|от|在|于|於|\d{1,4}\s?[./年:-]|\d{1,2}\s+\p{L}{2,12}\.?,?\s+\d{4}|(mon|tue|wed|thu|fri|sat|sun|mo|di|mi|do|fr|sa|so|lun|mar|mer|jeu|ven|sam|dim|mié|jue|sáb|dom|gio|ter|qua|qui|sex|seg|ma|wo|vr|za|zo|пн|вт|ср|чт|пт|сб|вс|нд|понедельник|вторник|среда|четверг|пятница|суббота|воскресенье|pon|wt|śr|czw|pt|sob|niedz|po|út|st|čt|pá|ne|pzt|sal|çar|per|cum|cmt|paz|周|週|星期)[\p{L}.]{0,10}[\s,.]|[^:<>]{1,80}<[^<>\s]{3,200}>)/iu;

/**
 * Labels of the header that Outlook and others put before a quotation. `sent` is used only for messages, `date` for
 * other things too.
 */
export type Label = "from" | "sent" | "date" | "to" | "subject";

// prettier-ignore
const WORDS: Record<Label, string[]> = {
  from: [
    "from", "von", "de", "da", "van", "от", "від", "od", "kimden", "gönderen", "差出人", "送信者", "发件人", "寄件者", "寄件人",
    "發件人", "发件者",
  ],
  sent: [
    "sent", "gesendet", "envoyé", "date d'envoi", "enviado", "enviado el", "inviato", "enviada em", "enviado em",
    "verzonden", "отправлено", "надіслано", "wysłano", "odesláno", "gönderildi", "gönderme tarihi",
    "gönderilme tarihi", "送信日時", "发送时间", "发送日期", "寄件日期", "傳送時間", "發送時間", "message du",
  ],
  date: [
    "date", "datum", "fecha", "data", "дата", "tarih", "日付", "日時", "日期", "时间", "received", "to", "an", "à",
    "para", "a", "aan", "кому", "do", "komu", "kime", "alıcı", "宛先", "收件人", "收件者", "cc", "kopie", "copie",
    "копия", "копія", "dw", "kopia", "bilgi", "抄送", "副本",
  ],
  to: [
    "to", "an", "à", "para", "a", "aan", "кому", "do", "komu", "kime", "alıcı", "宛先", "收件人", "收件者", "cc", "kopie",
    "copie", "копия", "копія", "dw", "kopia", "bilgi", "抄送", "副本",
  ],
  subject: [
    "subject", "betreff", "objet", "sujet", "asunto", "oggetto", "assunto", "onderwerp", "тема", "temat",
    "předmět", "konu", "件名", "主题", "主題", "主旨",
  ],
};

export const LABELS: ReadonlyMap<string, Label> = new Map(
  (Object.keys(WORDS) as Label[]).flatMap((label) => WORDS[label].map((word): [string, Label] => [word, label])),
);

/** A line between dashes, or alone with a colon, after which everything is quoted. */
export const ORIGINAL =
  /^[\s>*]*-{2,}\s*(original message|original|ursprüngliche nachricht|originalnachricht|original-nachricht|original ?mail|message d.origine|message original|mensaje original|messaggio originale|mensagem original|oorspronkelijk(e)? bericht|исходное сообщение|оригинальное сообщение|пересылаемое сообщение|пересланное сообщение|оригінальне повідомлення|вихідне повідомлення|переслане повідомлення|(wiadomość )?oryginaln[ay]( wiadomość)?|wiadomość oryginalna|treść oryginalnej wiadomości|původní (zpráva|e-?mail)|přeposlaná zpráva|(orijinal|özgün|asıl) ([iİ]leti|mesaj)|[iİ]letilen ([iİ]leti|mesaj)|元のメッセージ|original message|転送メッセージ|转发邮件|原始邮件(信息)?|邮件原件|原始信息|原始郵件|轉寄郵件|転送されたメッセージ|oprindelig besked|ursprungligt meddelande|opprinnelig melding|alkuperäinen viesti|forwarded( message| by .{0,60})?|weitergeleitete nachricht|message transféré|mensaje reenviado|messaggio inoltrato|mensagem encaminhada|doorgestuurd bericht|przekazana wiadomość|wiadomość przekazana|přeposlaný e-?mail)\s*:?\s*-{2,}\s*$/iu;
export const FORWARDED =
  /^[\s*]*(begin forwarded message|anfang der weitergeleiteten (nachricht|e-?mail)|début du message (réexpédié|transféré)|inicio del mensaje reenviado|inizio messaggio inoltrato|início da mensagem (encaminhada|reenviada)|begin doorgestuurd bericht|начало переадресованного сообщения|початок (пере[а-яії]+) повідомлення|początek przekazywanej wiadomości|začátek přeposílané zprávy|[iİ]letilen [iİ]leti|転送されたメッセージ|开始转发的邮件|下面是被转发的邮件|下面是轉寄的郵件)\s*[:：]\s*$/iu;

/** Devices and programs that such signatures name, within a few words. */
const DEVICE =
  ".{0,40}(iphon|ipad|ios|mac|android|galaxy|samsung|smartphone|smart phone|handy|mobil|téléphone|telefon|phone|blackberry|huawei|xiaomi|redmi|pixel|tablet|tablette|outlook|gmail|yahoo|aol|hotmail|windows|web\\.de|gmx|proton|spark|mail\\.ru|почт|приложени|додатк|смартфон|телефон|мобил|мобіл|cihaz|móvil|movil|手机|手機|设备|装置|邮箱|信箱|メール|スマートフォン|携帯).{0,40}$";
const line = (begin: string): RegExp => new RegExp(`^${begin}${DEVICE}`, "iu");

/** Lines that phones and programs add below a message. Each matches a whole line. */
export const MOBILE_SIGNATURES: RegExp[] = [
  line("sent (from|via|with|using)( my| the)?"),
  line("gesendet (von|mit|über|aus|per)( meine[mr]| der| dem)?"),
  /^(diese nachricht wurde )?von meine[mr]? .{1,40} (gesendet|versendet|geschickt|verschickt)\.?$/iu,
  line("envoyée? (de(puis)?|à partir de|avec|par)"),
  line("enviad[oa] (desde|de|do|da|con|com|a partir d[oe]l?)"),
  line("inviat[oa] (da|dal|dalla|con|tramite)"),
  line("(verstuurd|verzonden) (vanaf|met|via|vanuit|van)"),
  line("отправлено (с|из|от|через|с помощью)"),
  line("надіслано (з|із|через|за допомогою)"),
  line("wysłan[eoya] (z|ze|za pomocą|przy użyciu|przez)"),
  line("(odesláno|posláno) (z|ze|pomocí)"),
  line("(发自|發自|傳送自|寄自|来自|從我的|从我的)"),
  /^.{0,40}(iphone|ipad|android|telefon|cihaz|outlook|yahoo|mail)\S{0,14}( mail)? (gönderildi|gönderilmiştir)\.?$/iu,
  /^.{0,40}(iphone|ipad|android|携帯|スマートフォン|yahoo|メール).{0,12}(から送信|より送信).{0,10}$/iu,
  /^(get|download|télécharge[rz]|obtene[rt]|obtén|obtenga|ottieni|scarica|obtenha|obter|holen sie sich|laden sie|скачать|скачайте|отримайте|завантажити|pobierz|získat|získejte|stáhnout|获取|下载|取得).{0,16}outlook.{0,40}$/iu,
  /^.{0,20}outlook.{0,24}(を入手|を取得|indirin|edinin|downloaden|herunterladen|beziehen|ophalen)$/iu,
];
