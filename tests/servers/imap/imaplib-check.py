"""A client nobody here wrote looks at the in-process IMAP server: Python's imaplib. Arguments: port, TLS port, CA file."""

import imaplib
import ssl
import sys

port, tls_port, ca = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
context = ssl.create_default_context(cafile=ca)


def ok(answer):
    assert answer[0] == "OK", answer
    return answer[1]


with imaplib.IMAP4("localhost", port) as client:
    ok(client.starttls(context))
    try:
        client.login("ann", "wrong")
        raise SystemExit("a wrong password was accepted")
    except imaplib.IMAP4.error as error:
        assert b"AUTHENTICATIONFAILED" in error.args[0], error
    ok(client.authenticate("PLAIN", lambda challenge: b"\0ann\0secret"))

with imaplib.IMAP4_SSL("localhost", tls_port, ssl_context=context) as client:
    ok(client.authenticate("XOAUTH2", lambda challenge: b"user=ann\1auth=Bearer token\1\1"))

with imaplib.IMAP4_SSL("localhost", tls_port, ssl_context=context) as client:
    ok(client.login("ann", "secret"))
    assert b" UIDPLUS " in ok(client.capability())[0]
    ok(client.create('"Two words"'))
    assert any(b"Two words" in line for line in ok(client.list()))
    assert ok(client.select("INBOX"))[0] == b"0"
    raw = b"From: a@b.example\r\nSubject: =?utf-8?q?h=C3=A9?=\r\nX-Odd: 1\r\n\r\nbody\r\n"
    for number in range(3):
        assert b"APPENDUID" in ok(client.append("INBOX", r"(\Flagged)", '"05-Jan-2026 09:00:00 +0100"', raw))[0]
    assert b"MESSAGES 3" in ok(client.status("INBOX", "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN)"))[0]
    assert ok(client.search(None, "FLAGGED", "UNSEEN", "ON", "5-Jan-2026"))[0] == b"1 2 3"
    assert ok(client.search(None, "NOT", "SUBJECT", "nothing", "2:*"))[0] == b"2 3"
    assert ok(client.search(None, "(OR HEADER X-Odd 1 FROM nobody)", "LARGER", "10"))[0] == b"1 2 3"
    assert ok(client.fetch("2", "(BODY.PEEK[])"))[0][1] == raw
    assert ok(client.fetch("2", "(UID FLAGS INTERNALDATE RFC822.SIZE)"))[0].count(b"\\Seen") == 0
    assert b"08:00:00 +0000" in ok(client.fetch("2", "(INTERNALDATE)"))[0]
    assert ok(client.fetch("2", "(BODY[]<5.4>)"))[0][1] == raw[5:9]
    assert ok(client.fetch("2", "(BODY[HEADER.FIELDS (X-ODD)])"))[0][1] == b"X-Odd: 1\r\n\r\n"
    assert ok(client.fetch("1", "(RFC822.TEXT)"))[0][1] == b"body\r\n"
    assert b"\\Seen" in ok(client.fetch("2", "(FLAGS)"))[0]
    assert b'NIL "a" "b.example"' in ok(client.fetch("1", "(ENVELOPE BODYSTRUCTURE)"))[0]
    ok(client.store("1", "+FLAGS", r"(\Deleted Custom)"))
    assert b"COPYUID" in ok(client.copy("1:2", '"Two words"'))[0]
    assert b"Custom" in ok(client.fetch("1", "(FLAGS)"))[0]
    assert ok(client.expunge()) == [b"1"]
    assert ok(client.uid("SEARCH", None, "ALL"))[0] == b"2 3"
    ok(client.uid("STORE", "2,3", "FLAGS.SILENT", r"(\Deleted)"))
    ok(client.close())
    assert ok(client.select('"Two words"', readonly=True))[0] == b"2"
    ok(client.unselect() if hasattr(client, "unselect") else client.close())
    assert client.select("Nowhere")[0] == "NO"
    ok(client.rename('"Two words"', "Three"))
    ok(client.delete("Three"))
    ok(client.noop())
print("imaplib is content")
