import subprocess
import sys
from pathlib import Path

import pytest

from databuffer.settings import BufferSettings
from databuffer.tier_urls import TierUrl, parse_tiers
from databuffer.tiers.backends.open import open_tiers
from gwwire.tiering import Tiering
from tests.support.forked import run_forked


def test_tiers_are_named_with_their_urls_in_one_setting(tmp_path: Path) -> None:
    urls = parse_tiers(f" object=s3://bucket/a/prefix\ttape=folder://{tmp_path}?drives=2&mount=0.5&rate=3MB\n")
    assert urls == (
        TierUrl("object", "s3", "bucket", "/a/prefix"),
        TierUrl("tape", "folder", "", str(tmp_path), {"drives": 2, "mount": 0.5, "rate": 3_000_000}),
    )
    assert parse_tiers("  ") == ()


def test_every_scheme_opens_a_tier_of_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    folders = f"copy=file://{tmp_path}/not/there tape=folder://{tmp_path}"
    tiers = open_tiers(parse_tiers(f"{folders} object=s3://bucket grid=tape+https://tape.example:8443/packs"))
    kinds = {"copy": "disk", "object": "object", "tape": "tape", "grid": "tape"}
    assert {name: tier.kind for name, tier in tiers.items()} == kinds
    assert [tier.name for tier in tiers.values()] == list(tiers)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("s3://bucket", "'s3://bucket': expected NAME=URL"),
        ("Object=s3://bucket", "'Object=s3://bucket': expected NAME=URL"),
        ("1=s3://bucket", "expected NAME=URL, with a name of up to 32"),
        (f"{'a' * 33}=s3://bucket", "expected NAME=URL, with a name of up to 32"),
        ("disk=s3://bucket", "the tier disk is always there and has no URL; choose another name"),
        ("a=s3://one a=s3://two", "two tiers are named a"),
        ("a=s3://one/x b=s3://one/x/", "two tiers have the place of b"),
        ("a=tape+https://host/x b=tape+https://HOST/x", "two tiers have the place of b"),
        ("a=file:///packs%00", "a: 'file:///packs%00': expected printable characters"),
        ("a=s3://bucket/a%0Ab", "a: 's3://bucket/a%0Ab': expected printable characters"),
        ("a=ftp://host/path", "a: unknown scheme 'ftp'; known: file, folder, s3, gs, az, root, tape+https"),
        ("a=tape+https://host", "a: 'tape+https://host': expected tape+https://HOST:PORT/FOLDER"),
        ("a=/path", "a: unknown scheme ''"),
        ("a=file://", "a: 'file://': expected file:///FOLDER"),
        ("a=file:///", "a: 'file:///': expected file:///FOLDER"),
        ("a=file://host/path", "a: 'file://host/path': expected file:///FOLDER"),
        ("a=s3:///prefix", "a: 's3:///prefix': expected s3://BUCKET/PREFIX"),
        ("a=s3://bucket#part", "expected s3://BUCKET/PREFIX"),
        ("a=s3://[", "is not a URL"),
        ("a=s3://bucket?drives=1", "a: option 'drives' is unknown or given twice; known: capacity"),
        (
            "a=folder:///t?speed=1",
            "a: option 'speed' is unknown or given twice; known: drives, mount, seek, rate, online",
        ),
        ("a=folder:///t?drives=1&drives=2", "a: option 'drives' is unknown or given twice"),
        ("a=folder:///t?drives=0", "a: drives=0: expected a number from 1 to 999"),
        ("a=folder:///t?mount=-1", "a: mount=-1: expected seconds from 0 to 3600"),
        ("a=folder:///t?seek=nan", "a: seek=nan: expected seconds from 0 to 3600"),
        ("a=folder:///t?rate=0", "a: rate=0: expected a number of bytes such as 300MB"),
        ("a=folder:///t?rate", "is not a URL"),
    ],
)
def test_what_is_wrong_in_the_setting_is_named(text: str, error: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 (the text is compared)
        parse_tiers(text)
    assert error in str(raised.value)


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(
        ValueError, match=r"s3:// needs the library obstore: pip install 'glitchflow-datastore\[tiers\]'"
    ):
        parse_tiers("a=s3://bucket")


@pytest.mark.parametrize(
    ("environment", "error"),
    [
        ({"TIERS": "disk=s3://bucket"}, "TIERS='disk=s3://bucket': the tier disk is always there"),
        ({"TIERS": "a=s3://bucket", "AWS_SECRET_ACCESS_KEY": "x"}, "TIERS: tier a: Generic S3 error: Missing Access"),
    ],
)
def test_a_buffer_with_a_wrong_setting_does_not_start_and_says_why(environment: dict[str, str], error: str) -> None:
    ended = run_forked(["databuffer"], environment)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"databuffer: setting {error}")


def test_without_tiers_no_backend_is_imported() -> None:
    assert BufferSettings.model_fields["TIERS"].default == ()
    program = """
import sys, databuffer.app
assert databuffer.app.open_tiers(()) == {}
backends = {f"databuffer.tiers.backends.{name}" for name in ("folder", "tape_library", "object_store", "tape_endpoint")}
folder = __import__("pathlib").Path("databuffer/tiers/backends")
assert backends < {f"databuffer.tiers.backends.{path.stem}" for path in folder.iterdir()}
print(sorted({*backends, "obstore"} & sys.modules.keys()))
"""
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert told.stdout == "[]\n"


@pytest.mark.parametrize(
    ("tiers", "reason"),
    [
        ("a=file://{}/one b=file://{}/two/../one", "tiers a and b: one folder is the other or in it"),
        ("a=file://{}/one b=file://{}/link", "tiers a and b: one folder is the other or in it"),
        ("a=file://{}/one b=folder://{}/one", "tiers a and b: one folder is the other or in it"),
        ("a=file://{}/one/library b=folder://{}/one", "tiers a and b: one folder is the other or in it"),
        ("a=file://{}/one b=file://{}/one/new", "tiers a and b: one folder is the other or in it"),
        ("a=file://{}/vol", "tier a is in .*/vol, which the buffer uses for other files"),
        ("a=file://{}/vol/data", "tier a is in .*/vol/data, which the buffer uses"),
        ("a=folder://{}/vol/quarantine/tape", "tier a is in .*/vol/quarantine, which the buffer uses"),
    ],
)
def test_each_tier_has_a_folder_of_its_own(tiers: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "link").symlink_to("one")
    volume = {"DTVOLROOT": tmp_path / "vol", "DATAROOT": tmp_path / "vol" / "data"}
    with pytest.raises(ValueError, match=reason):
        BufferSettings.model_validate({"TIERS": tiers.replace("{}", str(tmp_path)), **volume})
    good = f"a=file://{tmp_path}/one b=folder://{tmp_path}/other c=file://{tmp_path}/vol/tier"
    assert len(BufferSettings.model_validate({"TIERS": good, **volume}).TIERS) == 3


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"HOLDING_ARCHIVE_TO": "tape"}, "no tier 'tape'; TIERS names object"),
        ({"HOLDING_ARCHIVE_TO": "disk"}, "'disk' is not a tier to archive to"),
        ({"HOLDING_KEEP_ON_DISK": "7d"}, "without one the disk has the only copy"),
        ({"HOLDING_KEEP_ON_DISK": "0"}, "without one the disk has the only copy"),
        ({"HOLDING_TIER_QUOTA": "object=1GB"}, "not in tier 'object'; they are in disk"),
        ({"HOLDING_TIER_QUOTA": "disk=1GB,disk=2GB"}, "once for a tier"),
        ({"HOLDING_TIER_QUOTA": "disk"}, "expected TIER=SIZE"),
        ({"HOLDING_TIER_QUOTA": "disk=some"}, "tier disk: 'some': expected a whole number of bytes"),
        ({"HOLDING_TIER_QUOTA": "disk=0"}, "tier disk: '0': expected 1 or more"),
    ],
)
def test_files_of_holdings_go_to_tiers_that_exist(values: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        BufferSettings.model_validate({"TIERS": "object=file:///packs", **values})
    kept = BufferSettings.model_validate({"TIERS": "object=file:///packs", "HOLDING_ARCHIVE_TO": "object"})
    assert kept.holding_tiering == Tiering(("object",))
    limited = {"HOLDING_ARCHIVE_TO": "object", "HOLDING_TIER_QUOTA": "disk=1kB, object=2MB"}
    found = BufferSettings.model_validate({"TIERS": "object=file:///packs", **limited})
    assert found.HOLDING_TIER_QUOTA == {"disk": 1000, "object": 2_000_000}
    dropped = {"HOLDING_ARCHIVE_TO": "object", "HOLDING_KEEP_ON_DISK": "0"}
    found = BufferSettings.model_validate({"TIERS": "object=file:///packs", **dropped})
    assert found.holding_tiering == Tiering(("object",), 0)


@pytest.mark.parametrize("name", ["SCRUB_EVERY", "HOLDING_GRACE", "RECALL_PIN"])
def test_a_time_that_has_to_pass_is_not_zero(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        BufferSettings.model_validate({name: "0"})
