"""Reads messages with Python's email package: a path on each line of the input, a JSON object on each line of the output."""
import email
import email.policy
import email.utils
import json
import sys


def addresses(message, name):
    values = [str(value) for value in message.get_all(name, [])]
    return [[person, address] for person, address in email.utils.getaddresses(values) if person or address]


def decoded(value):
    return "" if value is None else str(value)


def text_of(part):
    content = part.get_payload(decode=True) or b""
    charset = part.get_content_charset("utf-8")
    try:
        return content.decode(charset, "replace")
    except LookupError:
        return content.decode("latin-1")


def date_of(message):
    try:
        parsed = email.utils.parsedate_to_datetime(str(message["date"]))
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    try:
        return int((parsed.timestamp() if parsed.tzinfo else parsed.replace(tzinfo=email.utils.datetime.timezone.utc).timestamp()) * 1000)
    except (OverflowError, ValueError):
        return None


def read(path):
    with open(path, "rb") as file:
        message = email.message_from_binary_file(file, policy=email.policy.default)
    texts, htmls, files = [], [], []
    for part in message.walk():
        if part.is_multipart() and part.get_content_maintype() == "multipart":
            continue
        if part.get_content_maintype() == "message" and part.is_multipart():
            files.append([part.get_filename(), 0])
            continue
        kind = part.get_content_type()
        named = part.get_content_disposition() == "attachment" or part.get_filename() is not None
        if kind == "text/plain" and not named:
            texts.append(text_of(part))
        elif kind == "text/html" and not named:
            htmls.append(text_of(part))
        else:
            content = part.get_payload(decode=True) or b""
            files.append([part.get_filename(), len(content)])
    return {
        "subject": decoded(message["subject"]),
        "from": addresses(message, "from"),
        "to": addresses(message, "to"),
        "cc": addresses(message, "cc"),
        "date": date_of(message),
        "messageId": decoded(message["message-id"]),
        "text": "\n".join(texts),
        "html": "\n".join(htmls),
        "files": files,
    }


for line in sys.stdin:
    path = line.rstrip("\n")
    try:
        result = read(path)
    except Exception as error:  # A message that it cannot read at all is a result, too.
        result = {"failed": f"{type(error).__name__}: {error}"}
    print(json.dumps(result), flush=True)
