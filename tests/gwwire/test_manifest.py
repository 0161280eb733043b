import hashlib
import re
import subprocess
from pathlib import Path

import msgspec
import pytest

from gwwire.manifest import batch_digest, decode_manifest, encode_manifest, entry_of, seal, wrong_totals

FILES = {f"gwb{i}.json": b'{"h":[%d.5],"t":[%d,1.0]}' % (i, i) for i in (10, 9, 1)}
SEALED = seal(
    batch="b1", opened="2026-01-01T00:00:00Z", sealed="2026-01-02T00:00:00Z", holder="ada",
    segments=[entry_of(name, content) for name, content in FILES.items()],
)  # fmt: skip


def test_the_digest_equals_the_output_of_sha256sum(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    command = "LC_ALL=C sha256sum gwb*.json | sha256sum"
    printed = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True).stdout  # noqa: S607
    sums = ((name, hashlib.sha256(content).hexdigest()) for name, content in FILES.items())
    assert printed.split()[0] == batch_digest(sums) == SEALED.digest


def test_a_manifest_comes_back_as_it_was() -> None:
    assert decode_manifest(encode_manifest(SEALED)) == SEALED


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is not JSON"),
        (b"[1", "it is not a JSON object"),
        (b'{"batch":"\xff"}', "it is not JSON"),
        (b'{"a":' + b"[" * 100_000, "it is not JSON"),
        (b"[]", "it is not a JSON object"),
        (b"{}", "batch is missing or wrong"),
        (b'{"batch":1}', "batch is missing or wrong"),
        (encode_manifest(SEALED).replace(b'"n":', b'"n":"', 1), "it is not JSON"),
        (encode_manifest(SEALED).replace(b'"sha256":', b'"other":', 1), r"segments\[0\] is missing or wrong"),
        (encode_manifest(SEALED).replace(b'"opened": "', b'"opened": "0', 1), "'0.*' is not a time with a time zone"),
        (
            encode_manifest(SEALED).replace(b"2026-01-01T00:00:00Z", b"0001-01-01T00:00:00+14:00"),
            r"'0001-01-01T00:00:00\+14:00' is not a time with a time zone",
        ),
        (re.sub(rb'"size": \d+', b'"size": 4503599627370496', encode_manifest(SEALED)), "the sizes .* out of range"),
    ],
)
def test_an_invalid_manifest_is_refused_in_plain_words(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"^{reason}$"):
        decode_manifest(content)


@pytest.mark.parametrize(("field", "value"), [("n_itm", 4), ("buff_size", 1), ("digest", "0")])
def test_totals_that_the_segments_do_not_add_up_to_are_found(field: str, value: object) -> None:
    assert not list(wrong_totals(SEALED))
    (line,) = wrong_totals(msgspec.structs.replace(SEALED, **{field: value}))
    assert line.startswith(f"the manifest's {field} is {value}; its segments have ")
