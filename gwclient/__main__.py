"""`python -m gwclient` is the `gwclient` command."""

from typing import NoReturn

from gwclient.importing import interruptible


def main() -> NoReturn:
    """Import the commands, and run one."""
    with interruptible("gwclient"):
        from gwclient.cli import main as run  # noqa: PLC0415 (it takes a while)
    run()


if __name__ == "__main__":
    main()
