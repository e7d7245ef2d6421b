"""A client nobody here wrote looks at the fake Exchange server: exchangelib. Arguments: the URL of the service, how to log in."""

import sys
import threading
import time

from exchangelib import DELEGATE, IMPERSONATION, Account, Configuration, Credentials, FileAttachment, Folder, Message, Q
from exchangelib.credentials import OAuth2Credentials
from exchangelib.errors import ErrorImpersonateUserDenied, ErrorItemNotFound, ErrorNonExistentMailbox, UnauthorizedError
from exchangelib.ewsdatetime import UTC, EWSDateTime
from exchangelib.items import SEND_AND_SAVE_COPY
from exchangelib.properties import CreatedEvent, DeletedEvent, NewMailEvent

url, scheme = sys.argv[1], sys.argv[2]


def account(address, login="CORP\\ann", password="secret", access=DELEGATE):
    credentials = Credentials(login, password)
    config = Configuration(service_endpoint=url, credentials=credentials, auth_type=scheme, max_connections=4)
    return Account(address, config=config, autodiscover=False, access_type=access)


ann = account("ann@corp.example")
assert ann.version.build.major_version == 15, ann.version

# The tree of folders.
names = {folder.absolute for folder in ann.root.walk()}
assert "/root/Top of Information Store/Inbox/Orders" in names, names
assert ann.sent.name == "Sent Items" and ann.inbox.folder_class == "IPF.Note"
assert (ann.inbox / "Orders").parent == ann.inbox

# Finding and reading.
assert ann.inbox.total_count == 5 and ann.inbox.unread_count == 5
assert [one.subject for one in ann.inbox.all().order_by("subject")[:2]] == ["Message 0", "Message 1"]
found = list(ann.inbox.filter(subject__contains="sage 3"))
assert [one.subject for one in found] == ["Message 3"]
whole = ann.inbox.get(subject="Message 3")
assert whole.mime_content.startswith(b"From: Ann Sender <ann@sender.example>\r\n"), whole.mime_content
assert whole.sender.email_address == "ann@sender.example" and whole.to_recipients[0].email_address == "bob@receiver.example"
assert whole.text_body.strip() == "This is message 3." and not whole.is_read and not whole.has_attachments
assert {one.name: one.value for one in whole.headers}["X-Number"] == "3"
assert list(ann.inbox.filter(message_id=whole.message_id))[0].id == whole.id
assert ann.inbox.filter(datetime_received__gt=EWSDateTime(2020, 1, 1, tzinfo=UTC)).count() == 5
assert ann.inbox.filter(Q(is_read=True) | Q(subject="Message 1")).count() == 1
assert ann.inbox.filter(Q(is_read=False) & ~Q(subject="Message 1")).count() == 4

# Synchronization: everything once, then only what changed.
changes = list(ann.inbox.sync_items(max_changes_returned=2))
assert [kind for kind, _ in changes] == ["create"] * 5, changes
assert not list(ann.inbox.sync_items())
whole.is_read = True
whole.save(update_fields=["is_read"])
other = ann.inbox.get(subject="Message 4")
other.categories = ["Seen", "By: us"]
other.save(update_fields=["categories"])
ann.inbox.get(subject="Message 0").delete()
kinds = sorted(kind for kind, _ in ann.inbox.sync_items())
assert kinds == ["delete", "read_flag_change", "update"], kinds
assert ann.inbox.get(subject="Message 4").categories == ["Seen", "By: us"]
assert [kind for kind, _ in ann.root.sync_hierarchy()].count("create") > 10
assert not list(ann.root.sync_hierarchy())

# Moving and deleting.
moved = ann.inbox.get(subject="Message 1")
before = moved.id
moved.move(ann.inbox / "Orders")
assert moved.id != before and (ann.inbox / "Orders").all().count() == 1
moved.move_to_trash()
assert ann.trash.filter(subject="Message 1").count() == 1
assert isinstance(list(ann.fetch(ids=[(before, None)]))[0], ErrorItemNotFound)

# A new folder, and a message put into it with a file.
new = Folder(parent=ann.inbox, name="New")
new.save()
draft = Message(account=ann, folder=new, subject="Größe", body="Hällo", to_recipients=["bob@corp.example"])
draft.attach(FileAttachment(name="a.bin", content=b"\x00\x01" * 1000))
draft.save()
draft.attach(FileAttachment(name="b.txt", content=b"later"))
kept = new.all()[0]
assert kept.subject == "Größe" and sorted(file.name for file in kept.attachments) == ["a.bin", "b.txt"]
assert kept.is_draft and kept.attachments[0].content == b"\x00\x01" * 1000

# Sending a draft, and sending at once.
kept.send()
bob = account("bob@corp.example", "bob@corp.example", "hush")
got = bob.inbox.get(subject="Größe")
assert got.sender.email_address == "ann@corp.example" and got.has_attachments and got.text_body.strip() == "Hällo"
assert ann.sent.get(subject="Größe").is_draft is False and new.all().count() == 0
raw = b"From: ann@corp.example\r\nTo: bob@corp.example\r\nMessage-ID: <own@corp.example>\r\nSubject: own\r\n\r\nbody\r\n"
Message(account=ann, folder=ann.sent, mime_content=raw).send_and_save()
assert bob.inbox.get(subject="own").message_id == "<own@corp.example>"
assert ann.sent.filter(message_id="<own@corp.example>").count() == 1

# A streaming notification, and a pull subscription.
with ann.inbox.streaming_subscription(event_types=["NewMailEvent", "CreatedEvent"]) as subscription:
    def mail():
        time.sleep(0.5)
        Message(account=bob, subject="news", body="x", to_recipients=["ann@corp.example"]).send()
    sender = threading.Thread(target=mail)
    sender.start()
    events = []
    for notification in ann.inbox.get_streaming_events(subscription, connection_timeout=1):
        events += notification.events
        if {NewMailEvent, CreatedEvent} <= {type(one) for one in events}:
            break
    sender.join()
news = ann.inbox.get(subject="news")
assert {one.item_id.id for one in events} == {news.id}, events
with ann.inbox.pull_subscription(event_types=["DeletedEvent"]) as (subscription, watermark):
    news.delete()
    events = [one for told in ann.inbox.get_events(subscription, watermark) for one in told.events]
    assert DeletedEvent in {type(one) for one in events}, events

# Who may do what.
for work, error in [
    (lambda: account("ann@corp.example", password="wrong").inbox.total_count, UnauthorizedError),
    (lambda: account("bob@corp.example", access=IMPERSONATION).inbox.total_count, ErrorImpersonateUserDenied),
    (lambda: account("nobody@corp.example", access=IMPERSONATION).inbox.total_count, ErrorNonExistentMailbox),
]:
    try:
        work()
        raise SystemExit(f"{error.__name__} was expected")
    except error:
        pass
assert account("shared@corp.example").inbox.total_count == 1
assert account("carl@corp.example", access=IMPERSONATION).inbox.total_count == 1
print("exchangelib is content")
