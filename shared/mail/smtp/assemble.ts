/** A composed message as bytes at once. The composer's own way, through a chain of streams, costs more than composing it. */
import { encode as base64, wrap as wrapBase64 } from "nodemailer/lib/base64";
import type MimeNode from "nodemailer/lib/mime-node";
import { encode as quotedPrintable, wrap as wrapQuotedPrintable } from "nodemailer/lib/qp";

/** Above this, encoding it in one go would hold up everybody else. */
const AT_ONCE_BYTES = 256 * 1024;

/** The very bytes that `build` of the node gives. */
export async function assembled(node: MimeNode): Promise<Buffer> {
  const pieces: string[] = [];
  if (sizeOf(node) > AT_ONCE_BYTES || !collect(node, pieces)) return node.build();
  const text = pieces.join("");
  return Buffer.from(text.endsWith("\n") ? text : `${text}\r\n`);
}

function sizeOf({ content, childNodes }: MimeNode): number {
  const own = typeof content === "string" || content instanceof Buffer ? content.length : 0;
  return childNodes.reduce((sum, child) => sum + sizeOf(child), own);
}

/** False for a node whose content is neither text nor encoded. */
function collect(node: MimeNode, into: string[]): boolean {
  const body = bodyOf(node);
  if (body === undefined) return false;
  // Only this decides whether the node has parts, and their boundary.
  into.push(node.buildHeaders(), "\r\n\r\n", body);
  if (!node.multipart) return true;
  for (const [n, child] of node.childNodes.entries()) {
    into.push(n > 0 ? "\r\n" : "", `--${node.boundary}\r\n`);
    if (!collect(child, into)) return false;
  }
  into.push(`\r\n--${node.boundary}--\r\n`);
  return true;
}

function bodyOf(node: MimeNode): string | undefined {
  const { content } = node;
  if (!content) return "";
  if (typeof content !== "string" && !(content instanceof Buffer)) return undefined;
  const encoding = node.getTransferEncoding();
  if (encoding === "base64") return wrapBase64(base64(content));
  if (encoding === "quoted-printable") return wrapQuotedPrintable(quotedPrintable(content));
  return encoding === "7bit" && typeof content === "string" ? content : undefined;
}
