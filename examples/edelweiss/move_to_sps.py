"""Copy the data file of a record to the storage named by SPS, and print where it is, with its MD5.

It is a program for `gwclient listen`: the record comes on standard input, the result goes to standard output.
"""

import hashlib
import json
import os
import shutil
import socket
import sys
from pathlib import Path

record = json.load(sys.stdin)
original = Path(record["conditions"]["original_file"])
copy = Path(os.environ["SPS"]) / original.name
part = copy.with_name(f"{copy.name}.{os.environ['GLITCHFLOW_ATTEMPT']}")
shutil.copyfile(original, part)
md5sum = hashlib.md5(part.read_bytes(), usedforsecurity=False).hexdigest()
if md5sum != record["conditions"]["md5sum"]:
    sys.exit(f"{original} has the MD5 {md5sum}, the record another one")
part.replace(copy)
json.dump({"hostname": socket.gethostname(), "file": str(copy), "md5sum": md5sum}, sys.stdout)
