"""The secret of two services: which one is accepted, which one is presented, and changes of it."""

import os
from pathlib import Path

import pytest

from gwservice.security import CallerSecret, NotOurCaller
from gwservice.watched_file import FileBroken

OLD, NEW = "old-secret-0123456789", "new-secret-0123456789"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(f"{OLD}\n")
    return path


def admitted(secret: CallerSecret, authorization: str) -> bool:
    try:
        secret.check("/stat", authorization.encode())
    except NotOurCaller:
        return False
    return True


def test_only_the_secret_itself_opens(path: Path) -> None:
    secret = CallerSecret(path)
    assert secret.line == b"authorization: Bearer %b\r\n" % OLD.encode()
    assert admitted(secret, f"Bearer {OLD}")
    for wrong in ("", "Bearer", "Bearer ", OLD, f"Basic {OLD}", f"Bearer {OLD} ", f"Bearer {OLD[:-1]}", "Bearer x\xff"):
        assert not admitted(secret, wrong)


@pytest.mark.parametrize("path_asked", ["/healthz", "/readyz", "/metrics"])
def test_probes_and_metrics_need_no_secret(path: Path, path_asked: str) -> None:
    CallerSecret(path).check(path_asked, b"")


def test_two_secrets_are_taken_and_the_first_is_presented(path: Path) -> None:
    path.write_text(f"{NEW}\n{OLD}\n")
    secret = CallerSecret(path)
    assert secret.line == b"authorization: Bearer %b\r\n" % NEW.encode()
    assert admitted(secret, f"Bearer {OLD}")
    assert admitted(secret, f"Bearer {NEW}")


def test_a_changed_file_is_read_again_and_a_broken_one_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1000.0
    monkeypatch.setattr("gwservice.watched_file.time.monotonic", lambda: now)
    secret = CallerSecret(path)
    replacement = path.with_name("replacement")
    replacement.write_text(NEW)
    os.replace(replacement, path)  # noqa: PTH105 (as Kubernetes does it)
    assert admitted(secret, f"Bearer {OLD}"), "the file is not looked at for each request"
    now += 1.5
    assert admitted(secret, f"Bearer {NEW}")
    assert not admitted(secret, f"Bearer {OLD}")
    path.write_text("")
    now += 1.5
    assert admitted(secret, f"Bearer {NEW}")
    path.unlink()
    now += 1.5
    assert admitted(secret, f"Bearer {NEW}")
    assert "is still used" in caplog.text
    assert NEW not in caplog.text


@pytest.mark.parametrize(
    "content", [b"", b" \n", b"short", b"\xff" * 20, b"%s\n%s\n%s" % (b"a" * 20, b"b" * 20, b"c" * 20)]
)
def test_a_file_without_a_usable_secret_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(FileBroken, match=str(path)):
        CallerSecret(path)
