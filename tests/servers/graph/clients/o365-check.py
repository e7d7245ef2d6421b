"""Works with a fake Graph server through O365, a client of Graph that nobody here wrote.

Arguments: the Graph root, the token root, the tenant, the client id, its secret, a user. The user's inbox holds fifteen
messages "Message 1" to "Message 15", received a day apart from 2026-01-01 on; the last one has the file "a.bin" of three bytes.
"""
import datetime
import email
import email.policy
import os
import sys
import tempfile
import time

import requests
from O365 import Account, MSGraphProtocol

root, token_root, tenant, client_id, secret, user = sys.argv[1:]


class Protocol(MSGraphProtocol):
    _protocol_url = root + "/"


def wait(what, found):
    """Waits until there is something."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError("there is no " + what)


form = {
    "grant_type": "client_credentials",
    "client_id": client_id,
    "client_secret": secret,
    "scope": root + "/.default",
}
answer = requests.post(f"{token_root}/{tenant}/oauth2/v2.0/token", data=form, timeout=30)
answer.raise_for_status()
token = answer.json()["access_token"]

account = Account(
    (client_id, secret),
    protocol=Protocol(default_resource="users/" + user),
    auth_flow_type="credentials",
    tenant_id=tenant,
    main_resource="users/" + user,
    requests_delay=0,
)
account.con.session = account.con.get_session()
account.con.update_session_auth_header(token)
mailbox = account.mailbox()
where = mailbox.q()

# Folders, by name and by well-known name.
names = [one.name for one in mailbox.get_folders(limit=None)]
assert "Inbox" in names and "Büro" in names, names
office = mailbox.get_folder(folder_name="Büro")
assert office.name == "Büro" and office.total_items_count == 0
inbox = mailbox.inbox_folder()
assert [one.subject for one in inbox.get_messages(limit=1)] == ["Message 15"]
orders = office.create_child_folder("Orders")
assert [one.name for one in office.get_folders()] == ["Orders"]
assert orders.update_folder_name("Orders 2") and orders.name == "Orders 2"
assert orders.delete() and list(office.get_folders()) == []

# Messages in pages, filtered and ordered.
subjects = [one.subject for one in inbox.get_messages(limit=100, batch=4)]
assert subjects == [f"Message {n}" for n in range(15, 0, -1)], subjects
day = datetime.datetime(2026, 1, 10, tzinfo=datetime.timezone.utc)
query = where.greater_equal("receivedDateTime", day)
found = [one.subject for one in inbox.get_messages(limit=100, query=query)]
assert found == [f"Message {n}" for n in range(15, 9, -1)], found
query = where.contains("subject", "message 7")
assert [one.subject for one in inbox.get_messages(query=query)] == ["Message 7"]

# One message with its file, and as MIME.
query = where.equals("subject", "Message 15")
message = inbox.get_message(query=query, download_attachments=True)
assert message.has_attachments and not message.is_read and not message.is_draft
assert message.sender.address == "ann@sender.example", message.sender
assert [one.address for one in message.to] == ["bob@receiver.example"]
assert "This is message 15." in message.body, message.body
assert [(one.name, one.size > 0) for one in message.attachments] == [("a.bin", True)]
with tempfile.TemporaryDirectory() as folder:
    assert message.attachments[0].save(folder)
    with open(os.path.join(folder, "a.bin"), "rb") as file:
        assert file.read() == bytes([0, 128, 255])
    raw = email.message_from_bytes(message.get_mime_content(), policy=email.policy.default)
    assert raw["subject"] == "Message 15" and raw["x-number"] == "15"
    assert [part.get_content() for part in raw.iter_attachments()] == [bytes([0, 128, 255])]

# Marks, moves, copies and deletions.
assert message.mark_as_read()
message.add_category("Taken")
message.flag.set_flagged()
assert message.save_message()
again = mailbox.get_message(object_id=message.object_id)
assert again.is_read and again.categories == ["Taken"] and again.flag.is_flagged
before = again.object_id
assert again.move(mailbox.archive_folder()) and again.object_id != before
assert again.copy(office).subject == "Message 15"
assert office.refresh_folder() and office.total_items_count == 1
assert again.delete()
assert [one.subject for one in mailbox.deleted_folder().get_messages()] == ["Message 15"]

# Sending: at once, and as a draft with a small and a large file.
letter = mailbox.new_message()
letter.to.add([("Bob", user)])
letter.subject = "At once"
letter.body = "<p>Grüße</p>"
assert letter.send()
query = where.equals("subject", "At once")
arrived = wait("arrival", lambda: inbox.get_message(query=query))
assert "Grüße" in arrived.body
assert wait("copy in Sent Items", lambda: mailbox.sent_folder().get_message(query=query)).is_draft is False

with tempfile.TemporaryDirectory() as folder:
    large = os.path.join(folder, "large.bin")
    with open(large, "wb") as file:
        file.write(b"x" * 5_000_000)
    draft = mailbox.new_message()
    draft.to.add(user)
    draft.subject = "With files"
    draft.body = "See the files"
    assert draft.save_draft()
    # It begins an upload session only for a draft that is there.
    draft.attachments.add(large)
    assert draft.save_draft()
    assert mailbox.drafts_folder().get_message(object_id=draft.object_id).subject == "With files"
    assert draft.send()
query = where.equals("subject", "With files")
arrived = wait("large message", lambda: inbox.get_message(query=query, download_attachments=True))
assert [(one.name, len(one.content) > 6_000_000) for one in arrived.attachments] == [("large.bin", True)]

print("O365 is content")
