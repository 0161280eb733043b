"""Holdings of one buffer over HTTP: states of files and transactions, uploads, purges, and what is stored once."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from threading import Thread
from typing import Any

import pytest
from fastapi.testclient import TestClient

from databuffer.app import create_app, create_buffer
from databuffer.buffer import Buffer
from databuffer.errors import UploadEnded
from databuffer.holdings import holdings, orders
from databuffer.holdings.contents import Arriving, Contents
from databuffer.holdings.rows import Caller
from databuffer.holdings.uploads import Digests
from databuffer.settings import BufferSettings
from databuffer.storage.clock import steady_ns
from databuffer.storage.files import Space
from gwservice.patterns import matcher
from gwwire.decoding import InvalidRequest
from gwwire.holdings import NewFile, Transaction, TransactionOrder, TransactionState
from tests.support.buffer_settings import settings_in

Answer = dict[str, Any]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> BufferSettings:
    return settings_in(tmp_path_factory.mktemp("buffer"))


@pytest.fixture(scope="module")
def buffer(settings: BufferSettings) -> Buffer:
    return create_buffer(settings)


@pytest.fixture(scope="module")
def client(buffer: Buffer) -> Iterator[TestClient]:
    with TestClient(create_app(buffer, max_body=10_000_000)) as client:
        yield client


@pytest.fixture
def purge(client: TestClient, buffer: Buffer, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that purges as if HOLDING_GRACE were over for everything."""

    def purge() -> None:
        assert client.portal
        with monkeypatch.context() as patch:
            patch.setattr(holdings, "steady_ns", lambda: steady_ns() + 8 * 86_400 * 10**9)
            client.portal.call(buffer.holdings.purge)

    return purge


def put(client: TestClient, *paths: str, size: int = 4, **order: Any) -> Answer:
    """Begin a transaction; return it with its files."""
    files = [{"path": path, "size": size} for path in paths]
    answer = client.post("/transactions", json={"files": files, **order})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def send(client: TestClient, made: Answer, path: str, body: bytes = b"body") -> Answer:
    answer = client.put(f"/transactions/{made['transaction']['id']}/files{path}", content=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_put_without_a_label_makes_a_holding_named_after_its_transaction(client: TestClient) -> None:
    made = put(client, "/a")["transaction"]
    assert client.get(f"/holdings/{made['holding']}").json()["label"] == made["id"][:8]


@pytest.mark.parametrize("number", [-1, 0, 2**63 - 1, 2**63, 10**30])
def test_a_holding_with_an_impossible_id_does_not_exist(client: TestClient, number: int) -> None:
    for method, body in (("GET", None), ("DELETE", None), ("PATCH", {"label": "x"})):
        assert client.request(method, f"/holdings/{number}", json=body).status_code == 404


def test_the_state_of_a_transaction_follows_from_its_files(client: TestClient) -> None:
    made = put(client, "/a", "/b", "/c", label="states")
    route = f"/transactions/{made['transaction']['id']}"
    assert (made["transaction"]["state"], made["transaction"]["percent"]) == ("RUNNING", 0)
    send(client, made, "/a")
    assert client.get(route).json()["percent"] == 34
    client.delete(f"{route}/files/b", params={"reason": "Permission denied"})
    send(client, made, "/c")
    done = client.get(route).json()
    assert (done["state"], done["complete"], done["failed"]) == ("COMPLETE_WITH_ERRORS", 2, 1)
    [failed] = client.get(f"{route}/files", params={"state": "FAILED"}).json()["files"]
    assert (failed["path"], failed["reason"]) == ("/b", "Permission denied")
    assert client.get("/transactions", params={"state": "COMPLETE_WITH_ERRORS"}).json()["transactions"] == [done]
    holding = client.get(f"/holdings/{done['holding']}").json()
    assert (holding["files"], holding["bytes"]) == (2, 8)


def test_an_order_that_is_repeated_under_its_id_is_one_transaction(client: TestClient) -> None:
    order: Answer = {"label": "repeated", "id": "0ee42f6f-3f0f-4b0e-8c3f-0d0b3a0f6a55"}
    first = put(client, "/a", "/b", **order)
    send(client, first, "/a")
    again = put(client, "/a", "/b", **order)
    assert again["transaction"]["number"] == first["transaction"]["number"]
    assert [each["state"] for each in again["files"]] == ["COMPLETE", "WAITING"]


def test_a_file_that_still_waits_is_taken_over_by_a_later_transaction(client: TestClient) -> None:
    first = put(client, "/a", label="taken over", size=8)
    send(client, first, "/a")
    second = put(client, "/a", label="taken over")
    assert client.get(f"/transactions/{first['transaction']['id']}").json()["state"] == "FAILED"
    assert send(client, second, "/a")["file"]["state"] == "COMPLETE"
    third = put(client, "/a", label="taken over")
    assert third["files"][0]["reason"] == (
        f"holding {second['transaction']['holding']} has this path already, from transaction"
        f" {second['transaction']['id']}"
    )


def test_a_path_that_is_listed_more_often_than_a_page_has_files_is_on_one_page_with_all_its_failures(
    client: TestClient,
) -> None:
    made = put(client, "/a", *["/b"] * 5, "/c", label="listed often")
    route, seen, after = f"/transactions/{made['transaction']['id']}/files", [], ""
    for _ in range(3):
        page = client.get(route, params={"limit": 2, "after": after}).json()
        seen.append([each["path"] for each in page["files"]])
        after = page["after"]
    assert seen == [["/a"], ["/b"] * 5, ["/c"]]
    assert not page["more"]


def test_the_answer_to_the_last_bytes_may_be_lost(client: TestClient) -> None:
    made = put(client, "/a", label="lost")
    send(client, made, "/a")
    route = f"/transactions/{made['transaction']['id']}/files/a"
    again = client.put(route, content=b"", headers={"Upload-Offset": "4"})
    assert (again.status_code, again.json()["file"]["state"]) == (200, "COMPLETE")
    assert client.put(route, content=b"more", headers={"Upload-Offset": "4"}).json()["code"] == "upload-ended"


def test_an_upload_is_not_continued_without_its_offset(client: TestClient) -> None:
    made = put(client, "/a", label="without offset", size=8)
    send(client, made, "/a")
    route = f"/transactions/{made['transaction']['id']}/files/a"
    for body in (b"more", b"bodymore"):
        refused = client.put(route, content=body)
        assert (refused.status_code, refused.json()["code"], refused.json()["field"]) == (
            *(400, "bad-request"),
            "Upload-Offset",
        )
    done = client.put(route, content=b"more", headers={"Upload-Offset": "4"}).json()
    assert done["file"]["sha256"] == hashlib.sha256(b"bodymore").hexdigest()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("a", "not an absolute path"),
        ("/a/../b", "a part between slashes is empty, `.` or `..`"),
        ("/a//b", "a part between slashes is empty"),
        ("/a/", "a part between slashes is empty"),
        ("/", "it names no file"),
        ("/a\nb", "a line break or another control character"),
        ("/" + "ä" * 1500, "longer than 2048 bytes"),
    ],
)
def test_a_path_that_no_file_can_have_is_refused_with_the_reason(client: TestClient, path: str, reason: str) -> None:
    answer = client.post("/transactions", json={"files": [{"path": path}]})
    assert (answer.status_code, answer.json()["field"]) == (422, "path")
    assert reason in answer.json()["detail"]


@pytest.mark.parametrize("link", ["a\0b", "a\nb", "a\x1b[2J"])
def test_a_link_to_what_no_path_can_be_is_refused(client: TestClient, link: str) -> None:
    files = [{"path": "/a"}, {"path": "/b", "type": "LINK", "link": link}]
    before = client.get("/holdings").json()["holdings"]
    answer = client.post("/transactions", json={"files": files})
    assert (answer.status_code, answer.json()["field"]) == (422, "link")
    assert f"{link!r}: the target has a line break or another control character" in answer.json()["detail"]
    assert client.get("/holdings").json()["holdings"] == before


def test_files_are_found_by_folder_expression_and_page(client: TestClient) -> None:
    paths = ["/a/b", "/a/b.h5", "/a/b/1", "/a/b/2.h5", "/a/b0", "/c"]
    holding = put(client, *paths, label="found")["transaction"]["holding"]

    def found(**query: Any) -> list[str]:
        return [each["path"] for each in client.get(f"/holdings/{holding}/files", params=query).json()["files"]]

    assert found() == paths
    assert found(path="/a/b") == ["/a/b"]
    assert found(path="/a/b/") == ["/a/b/1", "/a/b/2.h5"]
    assert found(regex=r"\.h5$") == ["/a/b.h5", "/a/b/2.h5"]
    assert found(limit=2, after="/a/b.h5") == ["/a/b/1", "/a/b/2.h5"]
    assert client.get(f"/holdings/{holding}/files", params={"regex": "("}).status_code == 422


def test_an_expression_takes_linear_time() -> None:
    began = time.thread_time()
    assert not matcher("(a+)+$", "regex")("a" * 2000 + "b")
    assert time.thread_time() - began < 2, "s of CPU; one that tries every division never ends"
    with pytest.raises(InvalidRequest, match="look-around"):
        matcher("(?=a)", "regex")


def test_holdings_are_found_by_label_tag_and_file(client: TestClient) -> None:
    made = put(client, "/only here", label="by tag", tags={"site": "LHO", "run": "O4b"})
    number = made["transaction"]["holding"]

    def found(**query: Any) -> list[int]:
        return [each["id"] for each in client.get("/holdings", params=query).json()["holdings"]]

    assert found(tag="site:LHO,run:O4b") == found(label="by tag") == found(regex="^by t") == [number]
    assert found(tag="site:LHO,run:O4a") == found(path="/only here") == []
    for wrong, reason in (("site:LHO,site:LLO", "tag: 'site' is given twice"), ("site:", "tag: expected NAME:VALUE")):
        refused = client.get("/holdings", params={"tag": wrong})
        assert refused.status_code == 422
        assert reason in refused.json()["detail"]
    send(client, made, "/only%20here")
    assert found(path="/only here") == [number]
    newest = client.get("/holdings", params={"descending": True, "limit": 1}).json()
    assert [each["id"] for each in newest["holdings"]] == [max(found())]


def test_an_undone_deletion_leaves_a_path_that_is_taken(client: TestClient) -> None:
    made = put(client, "/a", "/b", label="undone")
    number = made["transaction"]["holding"]
    send(client, made, "/a")
    send(client, made, "/b")
    deletion = client.delete(f"/holdings/{number}/files/a").json()
    later = put(client, "/a", holding=number)
    send(client, later, "/a", b"new!")
    undone = client.post(f"/transactions/{deletion['id']}/undo").json()
    assert (undone["state"], undone["warnings"]) == ("UNDONE", ["1 of 1 files stay deleted: their paths are taken"])
    assert client.get(f"/holdings/{number}/files/a").content == b"new!"
    whole = client.delete(f"/holdings/{number}").json()
    put(client, "/x", label="undone")
    refused = client.post(f"/transactions/{whole['id']}/undo")
    assert (refused.status_code, refused.json()["code"]) == (409, "label-taken")


def test_bytes_that_would_take_the_space_of_segments_are_refused(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = put(client, "/a", label="full")
    route = f"/transactions/{made['transaction']['id']}/files/a"
    monkeypatch.setattr(Space, "margin", 2**60)
    refused = client.put(route, content=b"body")
    assert (refused.status_code, refused.json()["code"]) == (507, "volume-full")
    assert "are kept for segments" in refused.json()["detail"]
    monkeypatch.undo()
    assert client.put(route, content=b"body").json()["file"]["state"] == "COMPLETE"


def test_a_file_that_does_not_fit_is_refused_before_it_takes_space(
    client: TestClient, settings: BufferSettings
) -> None:
    made = put(client, "/huge", label="does not fit", size=2**50)
    route = f"/transactions/{made['transaction']['id']}/files/huge"
    refused = client.put(route, content=b"the first bytes")
    assert (refused.status_code, refused.json()["code"]) == (507, "volume-full")
    assert f"the file needs {2**50:,} bytes more" in refused.json()["detail"]
    assert [path.stat().st_size for path in (settings.DTVOLROOT / ".holdings" / "incoming").glob("*")] in ([], [0])


def test_a_content_is_purged_with_the_last_file_that_has_it(
    client: TestClient, settings: BufferSettings, purge: Callable[[], None]
) -> None:
    body = b"the same bytes"
    digest = hashlib.sha256(body).hexdigest()
    content = settings.DTVOLROOT / ".holdings" / "objects" / digest[:2] / digest
    kept, deleted = (put(client, "/a", label=label, size=len(body)) for label in ("kept", "deleted"))
    for made in (kept, deleted):
        send(client, made, "/a", body)
    number = deleted["transaction"]["holding"]
    deletion = client.delete(f"/holdings/{number}").json()
    assert client.get(f"/holdings/{number}").json()["deleted"]
    purge()
    assert client.get(f"/holdings/{number}").status_code == 404
    assert content.exists()
    refused = client.post(f"/transactions/{deletion['id']}/undo")
    assert (refused.status_code, "HOLDING_GRACE is over" in refused.json()["detail"]) == (404, True)
    client.delete(f"/holdings/{kept['transaction']['holding']}/files/a")
    assert content.exists()
    purge()
    assert not content.exists()
    assert put(client, "/a", label="deleted")["transaction"]["holding"] > number, "an id is never given twice"


def test_a_change_of_the_system_time_purges_nothing(
    client: TestClient, buffer: Buffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = put(client, "/a", "/b", label="clock")
    send(client, made, "/a")
    deletion = client.delete(f"/holdings/{made['transaction']['holding']}/files/a").json()
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + 8 * 86_400 * 10**9)
    assert client.portal
    client.portal.call(buffer.holdings.purge)
    assert client.post(f"/transactions/{deletion['id']}/undo").json()["state"] == "UNDONE"
    send(client, made, "/b")


def test_an_order_that_comes_again_before_it_is_answered_is_one_transaction(
    client: TestClient, buffer: Buffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "_ADDED", 10)
    files = [NewFile(f"/{number}") for number in range(25)]
    order = TransactionOrder(files, label="twice at once", id="1ee42f6f-3f0f-4b0e-8c3f-0d0b3a0f6a55")

    async def both() -> list[Transaction]:
        caller = Caller(None, None)
        made = await asyncio.gather(*(buffer.holdings.put(caller, order) for _ in range(2)))
        return [each.transaction for each in made]

    assert client.portal
    for each in client.portal.call(both):
        assert (each.files, each.failed, each.state) == (25, 0, TransactionState.RUNNING)


def test_a_holding_has_no_more_bytes_than_an_integer_of_the_database(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "_MOST_BYTES", 2**51)
    made = put(client, "/a", "/b", "/c", label="huge", size=2**50)
    assert [each["state"] for each in made["files"]] == ["WAITING", "WAITING", "FAILED"]
    assert "a holding has at most 2,251,799,813,685,248" in made["files"][-1]["reason"]
    [holding] = client.get("/holdings", params={"label": "huge"}).json()["holdings"]
    assert (holding["files"], holding["bytes"]) == (2, 2**51)


def test_bytes_that_arrive_after_a_deletion_are_not_left_on_the_volume(
    client: TestClient, settings: BufferSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = put(client, "/a", label="too late", size=len(b"arrived too late"))
    holding = f"/holdings/{made['transaction']['holding']}"
    deleting = Thread(target=client.delete, args=[holding])
    real = Contents.publish

    def publish(contents: Contents, files: Sequence[tuple[Arriving, str]]) -> None:
        deleting.start()
        while client.get(holding).json()["deleted"] is None:
            time.sleep(0.005)
        real(contents, files)

    monkeypatch.setattr(Contents, "publish", publish)
    route = f"/transactions/{made['transaction']['id']}/files/a"
    assert client.put(route, content=b"arrived too late").json()["code"] == "upload-ended"
    deleting.join()
    digest = hashlib.sha256(b"arrived too late").hexdigest()
    assert not (settings.DTVOLROOT / ".holdings" / "objects" / digest[:2] / digest).exists()


def test_uploads_that_end_for_two_reasons_at_once_end_once(client: TestClient, buffer: Buffer) -> None:
    made = put(client, "/a", "/b", label="taken twice", size=8)["transaction"]
    caller, uploads = Caller(None, None), buffer.holdings.uploads

    async def begin_to_send(path: str) -> asyncio.Task[Any]:
        hangs = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            hangs.set()
            await asyncio.Event().wait()
            yield b""

        sending = asyncio.create_task(uploads.receive(caller, made["id"], path, body(), 0, Digests()))
        await hangs.wait()
        return sending

    async def drop_twice() -> list[object]:
        sending = [await begin_to_send(path) for path in ("/a", "/b")]
        rows = [(await uploads.progress(caller, made["id"], path))[0] for path in ("/a", "/b")]
        ids = {row.transaction: made["id"] for row in rows}
        await asyncio.gather(*(uploads.drop(rows, ids) for _ in range(2)))
        ended: list[object] = await asyncio.gather(*sending, return_exceptions=True)
        return ended

    assert client.portal
    assert [type(each) for each in client.portal.call(drop_twice)] == [UploadEnded, UploadEnded]


def test_an_upload_that_is_never_finished_fails_after_the_grace(
    client: TestClient, settings: BufferSettings, purge: Callable[[], None]
) -> None:
    made = put(client, "/never", label="never", size=1000)
    route = f"/transactions/{made['transaction']['id']}"
    client.put(f"{route}/files/never", content=b"some")
    assert list((settings.DTVOLROOT / ".holdings" / "incoming").iterdir())
    purge()
    assert client.get(route).json()["state"] == "FAILED"
    [failed] = client.get(f"{route}/files").json()["files"]
    assert failed["reason"] == "not all of its bytes arrived within HOLDING_GRACE"
    assert not list((settings.DTVOLROOT / ".holdings" / "incoming").iterdir())


def test_a_content_that_is_damaged_on_the_volume_is_not_passed_off_as_the_file(
    client: TestClient, settings: BufferSettings
) -> None:
    body = b"whole and sound"
    made = put(client, "/a", label="damaged", size=len(body))
    digest = send(client, made, "/a", body)["file"]["sha256"]
    path = settings.DTVOLROOT / ".holdings" / "objects" / digest[:2] / digest
    path.write_bytes(body[::-1])  # of the same size
    assert client.get(f"/holdings/{made['transaction']['holding']}/files/a").content != body
    send(client, put(client, "/c", label="damaged", size=len(body)), "/c", body)
    assert client.get(f"/holdings/{made['transaction']['holding']}/files/a").content == body, "put again, it is whole"
    path.write_bytes(body[:5])
    answer = client.get(f"/holdings/{made['transaction']['holding']}/files/a")
    assert (answer.status_code, answer.json()["code"]) == (503, "volume-failed")
    repaired = put(client, "/b", label="damaged", size=len(body))
    send(client, repaired, "/b", body)
    assert client.get(f"/holdings/{made['transaction']['holding']}/files/a").content == body


@pytest.mark.parametrize("name", ["Content-Digest", "Repr-Digest"])
@pytest.mark.parametrize(
    "digest", ["sha-256=:AAAA:", "sha-256=AAAA", "sha-256=::", "md5=:AAAA:, sha-256=:%%:", f"sha-256=:{'A' * 44}:"]
)
def test_a_digest_that_cannot_be_compared_is_refused(client: TestClient, name: str, digest: str) -> None:
    made = put(client, "/a", label=f"{name} {digest}")
    route = f"/transactions/{made['transaction']['id']}/files/a"
    refused = client.put(route, content=b"body", headers={name: digest})
    assert (refused.status_code, refused.json()["field"]) == (422, name)
    others = {name: "md5=:AAAA:, unknown"}
    assert client.put(route, content=b"body", headers=others).json()["file"]["state"] == "COMPLETE"
