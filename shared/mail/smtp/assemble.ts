/** A composed message as bytes. The composer's own way, a chain of streams, costs more than composing the message. */
import { encode as base64, wrap as wrapBase64 } from "nodemailer/lib/base64";
import type MimeNode from "nodemailer/lib/mime-node";
import { encode as quotedPrintable, wrap as wrapQuotedPrintable } from "nodemailer/lib/qp";

/** Encoding a larger message at once would block the event loop for too long. */
const MAX_SYNC_BYTES = 256 * 1024;

/** The same bytes as `node.build()`. */
export async function assembleMessage(node: MimeNode): Promise<Buffer> {
  const pieces: string[] = [];
  if (getSize(node) > MAX_SYNC_BYTES || !collectPieces(node, pieces)) return node.build();
  const text = pieces.join("");
  return Buffer.from(text.endsWith("\n") ? text : `${text}\r\n`);
}

function getSize({ content, childNodes }: MimeNode): number {
  const own = typeof content === "string" || content instanceof Buffer ? content.length : 0;
  return childNodes.reduce((sum, child) => sum + getSize(child), own);
}

/** False for a node whose content is neither text nor bytes. */
function collectPieces(node: MimeNode, pieces: string[]): boolean {
  const body = encodeBody(node);
  if (body === undefined) return false;
  // Only this call decides whether the node has parts, and their boundary.
  pieces.push(node.buildHeaders(), "\r\n\r\n", body);
  if (!node.multipart) return true;
  for (const [n, child] of node.childNodes.entries()) {
    pieces.push(n > 0 ? "\r\n" : "", `--${node.boundary}\r\n`);
    if (!collectPieces(child, pieces)) return false;
  }
  pieces.push(`\r\n--${node.boundary}--\r\n`);
  return true;
}

function encodeBody(node: MimeNode): string | undefined {
  const { content } = node;
  if (!content) return "";
  if (typeof content !== "string" && !(content instanceof Buffer)) return undefined;
  const encoding = node.getTransferEncoding();
  if (encoding === "base64") return wrapBase64(base64(content));
  if (encoding === "quoted-printable") return wrapQuotedPrintable(quotedPrintable(content));
  return encoding === "7bit" && typeof content === "string" ? content : undefined;
}
