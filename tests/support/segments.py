"""Valid and invalid segments, and the segments on a volume."""

import json
from pathlib import Path
from typing import Any

JSON = {"Content-Type": "application/json"}

#: A name for the error, the body, its status, and the field that the problem names.
BAD_BODIES: dict[str, tuple[bytes, int, str | None]] = {
    "empty body": (b"", 400, None),
    "not JSON": (b"strain", 400, None),
    "cut off": (b'{"h":[1.0,2.0', 400, None),
    "not UTF-8": (b'{"h":[1.0],"t":[0,1],"meta":{"channel":"\xff"}}', 400, None),
    "UTF-16": ('{"h":[1.0],"t":[0,1]}'.encode("utf-16"), 400, None),
    "NaN": (b'{"h":[NaN],"t":[0,1]}', 400, None),
    "Infinity": (b'{"h":[Infinity],"t":[0,1]}', 400, None),
    "minus Infinity": (b'{"h":[-Infinity],"t":[0,1]}', 400, None),
    "two documents": (b'{"h":[1.0],"t":[0,1]}{"h":[1.0],"t":[0,1]}', 400, None),
    "an array": (b"[1,2]", 422, None),
    "a number": (b"1", 422, None),
    "null": (b"null", 422, None),
    "no h": (b'{"t":[0,1]}', 422, "h"),
    "empty h": (b'{"h":[],"t":[0,1]}', 422, "h"),
    "null h": (b'{"h":null,"t":[0,1]}', 422, "h"),
    "null sample": (b'{"h":[1.0,null],"t":[0,1]}', 422, "h"),
    "1e999": (b'{"h":[1e999],"t":[0,1]}', 422, "h"),
    "a string sample": (b'{"h":["1.0"],"t":[0,1]}', 422, "h"),
    "a boolean sample": (b'{"h":[true],"t":[0,1]}', 422, "h"),
    "nested h": (b'{"h":[[1.0]],"t":[0,1]}', 422, "h"),
    "h an object": (b'{"h":{"a":1},"t":[0,1]}', 422, "h"),
    "no t": (b'{"h":[1.0]}', 422, "t"),
    "t too short": (b'{"h":[1.0],"t":[0]}', 422, "t"),
    "t too long": (b'{"h":[1.0],"t":[0,1,2]}', 422, "t"),
    "t of strings": (b'{"h":[1.0],"t":["0","1"]}', 422, "t"),
    "t0 infinite": (b'{"h":[1.0],"t":[1e999,1]}', 422, "t"),
    "dt zero": (b'{"h":[1.0],"t":[0,0]}', 422, "t"),
    "dt negative": (b'{"h":[1.0],"t":[0,-1]}', 422, "t"),
    "dt a boolean": (b'{"h":[1.0],"t":[0,true]}', 422, "t"),
    "meta a list": (b'{"h":[1.0],"t":[0,1],"meta":[]}', 422, "meta"),
    "meta null": (b'{"h":[1.0],"t":[0,1],"meta":null}', 422, "meta"),
    "channel a number": (b'{"h":[1.0],"t":[0,1],"meta":{"channel":1}}', 422, "meta.channel"),
    "an unknown field": (b'{"h":[1.0],"t":[0,1],"x":1}', 422, "x"),
    "h twice": (b'{"h":[1.0],"h":[1.0],"t":[0,1]}', 422, "h"),
    "t twice, once escaped": (b'{"h":[1.0],"t":[0,1],"\\u0074":[0,1]}', 422, "t"),
    "meta twice": (b'{"h":[1.0],"t":[0,1],"meta":{"a":"\\n"},"meta":{"channel":"H1:X"}}', 422, "meta"),
    "a key of meta twice": (b'{"h":[1.0],"t":[0,1],"meta":{"a":[{"b":1,"b":1}]}}', 422, "meta"),
    "t0 in milliseconds": (b'{"h":[1.0],"t":[1126259462000,1]}', 422, "t"),
    "t0 in nanoseconds": (b'{"h":[1.0],"t":[1126259462000000000,1]}', 422, "t"),
    "t0 long ago": (b'{"h":[1.0],"t":[-1e10,1]}', 422, "t"),
    "an end far ahead": (b'{"h":[1.0,2.0],"t":[9.999999e9,500]}', 422, "t"),
    "dt tiny": (b'{"h":[1.0],"t":[0,9e-10]}', 422, "t"),
    "dt huge": (b'{"h":[1.0],"t":[0,1000001]}', 422, "t"),
    "UTF-8 with a byte order mark": (b'\xef\xbb\xbf{"h":[1.0],"t":[0,1]}', 400, None),
    "nested without end": (b'{"h":[1.0],"t":[0,1],"meta":{"a":' + b"[" * 100_000, 422, None),
}


def segment_body(number: int, *, samples: int = 8, t0: float = 1e9) -> bytes:
    """Return a segment whose first sample is `number`, so that it can be identified."""
    return json.dumps({"h": [float(number), *[1e-21] * (samples - 1)], "t": [t0, 1 / 4096]}).encode()


def segment_files(volume: Path) -> list[Path]:
    """Return the segment files of the current batch and of all archives, without quarantine."""
    return [path for folder in volume.iterdir() if folder.name[0] in "d2" for path in folder.glob("gwb*.json")]


def numbers_on(volume: Path) -> list[int]:
    """Return the numbers of all segments on a volume; every file must be complete."""
    return sorted(int(json.loads(path.read_bytes())["h"][0]) for path in segment_files(volume))


def check_counts(home: Path, stats: dict[str, Any]) -> None:
    """Check that the reported and the stored counts equal the content of the data folder."""
    sizes = [path.stat().st_size for path in (home / "datavar" / "data").glob("gwb*.json")]
    written = json.loads((home / "appdata" / "adm" / "StatDesc.json").read_bytes())
    assert stats == {"n_itm": len(sizes), "buff_size": sum(sizes)}
    assert written == stats
