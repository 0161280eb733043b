"""Kill a buffer that 16 writers write to, again and again; exit status 1 where it lost, doubled or miscounted anything.

make torture ROUNDS=500
"""

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

from scripts.trio import ServiceDied
from tests.support.torture import Torture


def main() -> int:
    """Torture a buffer in a folder of its own, which is kept where something is wrong."""
    parser = argparse.ArgumentParser("python -m scripts.torture", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=100, metavar="N", help="how often to kill it (default 100)")
    parser.add_argument("--seed", type=int, help="of an earlier run (default: a new one)")
    chosen = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if chosen.seed is None else chosen.seed
    home = Path(tempfile.mkdtemp(prefix="torture-"))
    print(f"{chosen.rounds} rounds with seed {seed} in {home}")
    torture = Torture(home, seed)
    try:
        for _ in tqdm(range(chosen.rounds), unit="kill"):
            torture.kill_once()
        torture.finish()
    except (AssertionError, ServiceDied) as wrong:
        sys.stderr.write(f"wrong, with seed {seed}: {wrong}\nwhat is left is in {home}\n")
        return 1
    shutil.rmtree(home)
    told = torture.ledger
    print(
        f"{chosen.rounds} kills: {len(told.acknowledged)} segments acknowledged, {told.retried} of them on a retry; "
        "none lost, none twice, all intact, counts equal files"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
