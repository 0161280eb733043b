"""Find the pulse in a file of samples (int16, little-endian) that move_to_sps copied, and print its height.

It is a program for `gwclient listen`: the record comes on standard input, the result goes to standard output.
"""

import array
import json
import socket
import statistics
import sys
from pathlib import Path

record = json.load(sys.stdin)
[moved] = [step["result"] for step in record["steps"] if step["name"] == "move_to_sps"]
file = Path(moved["file"])
samples = array.array("h", file.read_bytes())
if sys.byteorder == "big":
    samples.byteswap()
baseline = statistics.median(samples)
peak = max(range(len(samples)), key=lambda index: abs(samples[index] - baseline))
pulse = {"baseline": baseline, "height": samples[peak] - baseline, "sample": peak}
processed = file.with_name(f"{file.stem}.amp.json")
processed.write_text(json.dumps(pulse))
json.dump({"hostname": socket.gethostname(), "file": str(processed), **pulse}, sys.stdout)
