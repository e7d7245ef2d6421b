"""Works with a fake Graph server through msgraph-sdk, which Microsoft makes from its own description of Graph.

Arguments: the Graph root, the token root, the tenant, the client id, its secret, a user. The user's inbox holds fifteen
messages "Message 1" to "Message 15", received a day apart from 2026-01-01 on; the last one has the file "a.bin" of three bytes.
Whatever an answer has beside the properties that Microsoft describes must be a word of OData.
"""
import asyncio
import dataclasses
import sys
import urllib.parse
import urllib.request
import json

from kiota_abstractions.authentication import AccessTokenProvider, AllowedHostsValidator, BaseBearerTokenAuthenticationProvider
from kiota_abstractions.base_request_configuration import RequestConfiguration
from kiota_abstractions.headers_collection import HeadersCollection
from msgraph import GraphRequestAdapter, GraphServiceClient
from msgraph.generated.models.body_type import BodyType
from msgraph.generated.models.email_address import EmailAddress
from msgraph.generated.models.exchange_id_format import ExchangeIdFormat
from msgraph.generated.models.file_attachment import FileAttachment
from msgraph.generated.models.item_body import ItemBody
from msgraph.generated.models.message import Message
from msgraph.generated.models.o_data_errors.o_data_error import ODataError
from msgraph.generated.models.recipient import Recipient
from msgraph.generated.users.item.mail_folders.item.messages.delta.delta_request_builder import DeltaRequestBuilder
from msgraph.generated.users.item.messages.item.move.move_post_request_body import MovePostRequestBody
from msgraph.generated.users.item.messages.messages_request_builder import MessagesRequestBuilder
from msgraph.generated.users.item.send_mail.send_mail_post_request_body import SendMailPostRequestBody
from msgraph.generated.users.item.translate_exchange_ids.translate_exchange_ids_post_request_body import (
    TranslateExchangeIdsPostRequestBody,
)

root, token_root, tenant, client_id, secret, user = sys.argv[1:]


def plain(model, path="answer"):
    """Checks that a model and all within it hold nothing that Microsoft's description does not know."""
    if isinstance(model, (list, tuple)):
        for at, one in enumerate(model):
            plain(one, f"{path}[{at}]")
    elif hasattr(model, "get_field_deserializers"):
        extra = [one for one in model.additional_data if not one.startswith("@")]
        assert extra == [], f"{path} holds {extra}"
        for field in dataclasses.fields(model):
            if field.name not in ("additional_data", "backing_store"):
                plain(getattr(model, field.name), f"{path}.{field.name}")
    return model


def token():
    form = urllib.parse.urlencode({
        "grant_type": "client_credentials",
        "client_id": client_id,
        "client_secret": secret,
        "scope": root + "/.default",
    })
    with urllib.request.urlopen(f"{token_root}/{tenant}/oauth2/v2.0/token", form.encode(), timeout=30) as answer:
        return json.load(answer)["access_token"]


class Tokens(AccessTokenProvider):
    async def get_authorization_token(self, uri, additional_authentication_context={}):
        return token()

    def get_allowed_hosts_validator(self):
        return AllowedHostsValidator([])


def headers(**more):
    found = HeadersCollection()
    found.add("Prefer", ", ".join(['IdType="ImmutableId"', *more.values()]))
    return found


async def check():
    adapter = GraphRequestAdapter(BaseBearerTokenAuthenticationProvider(Tokens()))
    adapter.base_url = root + "/v1.0"
    graph = GraphServiceClient(request_adapter=adapter)
    mailbox = graph.users.by_user_id(user)

    person = plain(await mailbox.get())
    assert person.user_principal_name == user
    folders = plain(await mailbox.mail_folders.get())
    assert any(one.display_name == "Inbox" for one in folders.value)
    inbox = plain(await mailbox.mail_folders.by_mail_folder_id("inbox").get())
    assert (inbox.total_item_count, inbox.unread_item_count) == (15, 15)

    # Delta in pages, and then what was removed.
    wish = RequestConfiguration(
        query_parameters=DeltaRequestBuilder.DeltaRequestBuilderGetQueryParameters(select=["subject", "receivedDateTime"]),
        headers=headers(size="odata.maxpagesize=4"),
    )
    delta = mailbox.mail_folders.by_mail_folder_id("inbox").messages.delta
    page = plain(await delta.get(request_configuration=wish))
    found, pages = [*page.value], 1
    while page.odata_next_link:
        again = RequestConfiguration(headers=headers(size="odata.maxpagesize=4"))
        page = plain(await delta.with_url(page.odata_next_link).get(request_configuration=again))
        found, pages = [*found, *page.value], pages + 1
    assert (len(found), pages) == (15, 4), (len(found), pages)
    assert sorted(one.subject for one in found) == sorted(f"Message {n}" for n in range(1, 16))
    last = next(one for one in found if one.subject == "Message 15")
    first = next(one for one in found if one.subject == "Message 1")

    # One message, its file and its MIME.
    item = mailbox.messages.by_message_id(last.id)
    immutable = RequestConfiguration(headers=headers())
    message = plain(await item.get(request_configuration=immutable))
    assert message.id == last.id and message.has_attachments and message.body.content_type == BodyType.Text
    assert message.received_date_time.isoformat() == "2026-01-15T00:00:00+00:00", message.received_date_time
    assert message.from_.email_address.address == "ann@sender.example"
    files = plain(await item.attachments.get())
    assert [(one.name, one.content_bytes) for one in files.value] == [("a.bin", bytes([0, 128, 255]))]
    raw = await item.content.get()
    assert b"Subject: Message 15" in raw
    query = MessagesRequestBuilder.MessagesRequestBuilderGetQueryParameters(
        filter="receivedDateTime ge 2026-01-10T00:00:00Z", orderby=["receivedDateTime desc"], top=3, count=True
    )
    listed = plain(await mailbox.messages.get(request_configuration=RequestConfiguration(query_parameters=query)))
    assert [one.subject for one in listed.value] == ["Message 15", "Message 14", "Message 13"]
    assert (listed.odata_count, bool(listed.odata_next_link)) == (6, True)

    # Marks, moves, ids and deletions.
    marked = plain(await item.patch(Message(is_read=True, categories=["Taken"]), request_configuration=immutable))
    assert (marked.is_read, marked.categories) == (True, ["Taken"])
    moved = plain(await item.move.post(MovePostRequestBody(destination_id="archive"), request_configuration=immutable))
    assert moved.id == last.id and moved.parent_folder_id != last.parent_folder_id
    await mailbox.messages.by_message_id(first.id).delete()
    page = plain(await delta.with_url(page.odata_delta_link).get(request_configuration=immutable))
    gone = [one.id for one in page.value if "@removed" in one.additional_data]
    assert sorted(gone) == sorted([last.id, first.id]), page.value
    translated = plain(
        await mailbox.translate_exchange_ids.post(
            TranslateExchangeIdsPostRequestBody(
                input_ids=[last.id],
                source_id_type=ExchangeIdFormat.RestImmutableEntryId,
                target_id_type=ExchangeIdFormat.RestId,
            )
        )
    )
    assert translated.value[0].source_id == last.id and translated.value[0].target_id != last.id

    # Sending, at once and as a draft.
    letter = Message(
        subject="At once",
        body=ItemBody(content_type=BodyType.Html, content="<p>Grüße</p>"),
        to_recipients=[Recipient(email_address=EmailAddress(address=user, name="Ann"))],
        attachments=[FileAttachment(odata_type="#microsoft.graph.fileAttachment", name="x.txt", content_bytes=b"hi")],
    )
    await mailbox.send_mail.post(SendMailPostRequestBody(message=letter, save_to_sent_items=True))
    draft = plain(await mailbox.messages.post(Message(subject="Draft", to_recipients=letter.to_recipients)))
    assert draft.is_draft and draft.internet_message_id
    await mailbox.messages.by_message_id(draft.id).send.post()
    for _ in range(600):
        query = MessagesRequestBuilder.MessagesRequestBuilderGetQueryParameters(select=["subject", "isDraft"])
        sent = await mailbox.mail_folders.by_mail_folder_id("sentitems").messages.get()
        if len(sent.value) == 2:
            break
        await asyncio.sleep(0.1)
    assert sorted(one.subject for one in plain(sent).value) == ["At once", "Draft"]

    # Errors are of the form that Microsoft describes.
    try:
        await mailbox.messages.by_message_id("nonsense").get()
        raise AssertionError("an id of another form was taken")
    except ODataError as error:
        plain(error.error, "error")
        assert error.response_status_code == 400 and error.error.code == "ErrorInvalidIdMalformed"
        assert error.error.inner_error.request_id


asyncio.run(check())
print("msgraph-sdk is content")
