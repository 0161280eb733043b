"""Print a record for each EDELWEISS document on standard input, one JSON object a line for both."""

import json
import sys

for line in sys.stdin:
    document = json.loads(line)
    of_file = {name: document[name] for name in ("original_file", "md5sum", "datecreated") if name in document}
    record = {
        "id": f"file/{document['_id']}",
        "run": document["run"],
        "status": document["status"],
        "conditions": {**document.get("conditions", {}), **of_file},
    }
    print(json.dumps(record))  # noqa: T201 (its output)
