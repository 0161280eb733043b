"""The `gwclient` command: its group, and its exit codes."""

import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NoReturn

import click
from click.shell_completion import get_completion_class

from gwclient.commands.doctor import doctor
from gwclient.commands.get import get
from gwclient.commands.getfile import getfile, getlist
from gwclient.commands.holdings import delete, find, holdings, meta, stat, undo
from gwclient.commands.listen import listen
from gwclient.commands.options import Debugging, StrictCommand, unquoted
from gwclient.commands.orders import clean, thaw, train
from gwclient.commands.push import push_command
from gwclient.commands.put import put, putlist, resume
from gwclient.commands.queries import batch, batches, desc, list_command, manifest, segments, stats, verify
from gwclient.commands.recall import recall
from gwclient.commands.records import changes, forget, record, records, redo, steps
from gwclient.commands.replay import replay
from gwclient.commands.search import bundle, search
from gwclient.commands.simulate import simulate
from gwclient.commands.tiers import tier, tiers
from gwclient.commands.watch import watch
from gwclient.errors import INTERRUPTED, USAGE, GwclientError, address_hint
from gwclient.output import checked_output, print_error
from gwwire.query import FIELDS

_EXIT_CODES = """\b
Exit codes:
  0    everything was acknowledged, or answered
  1    something was refused, not acknowledged or not read; nothing was fetched;
       a check failed
  2    the command or its data cannot be used
  3    no gateway answers, or the source of the data does not
  4    a part of the requested strain or files could not be fetched; the rest
       was
  5    the output, a cursor or the spool cannot be written
  6    another user holds the frozen batch
  130  interrupted
"""


#: The words of click for the type of an option, and plain ones.
_TYPES = {"a valid integer range": "a whole number", "a valid float range": "a number"}


class _Group(click.Group):
    """The group of all commands; it reports output that cannot be written, which click does not."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with checked_output():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with checked_output():
            return super().invoke(ctx)


@click.group(
    cls=_Group,
    invoke_without_command=True,
    epilog=_EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(version("glitchflow-datastore"), prog_name="gwclient")
@click.pass_context
def gwclient(context: click.Context) -> None:
    """Send strain to a GlitchFlow datastore, get it back, and freeze batches for training.

    Without a command, send the open data that the environment names: GWID (event), DTCID (detector), INF and SUP
    (seconds relative to the event's GPS time), SRV (gateway).

    \b
    Examples:
      gwclient push my-strain.h5
      gwclient simulate --live --srv http://gateway:8000
      gwclient get --channel L1:MY-STRAIN --start 1126259446 --stop 1126259478
      GWID=GW150914 DTCID=L1 INF=-4 SUP=4 SRV=http://gateway:8000 gwclient
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    if context.invoked_subcommand is not None:
        return
    window = {name: unquoted(os.environ.get(name, "")) for name in ("GWID", "DTCID", "INF", "SUP")}
    if not any(window.values()):
        click.echo(context.get_help())
        return
    if missing := [name for name, value in window.items() if not value]:
        raise click.UsageError(f"the environment names a window, but these are not set: {', '.join(missing)}")
    options = ("--event", "--detector", "--start", "--stop")
    words = [f"{option}={value}" for option, value in zip(options, window.values(), strict=True)]
    try:
        with push_command.make_context("gwclient", words, parent=context) as subcontext:
            push_command.invoke(subcontext)
    except click.UsageError as error:
        message = error.format_message()
        for option, name in zip(options, window, strict=True):
            message = message.replace(option, name)
        raise click.UsageError(message) from error


@click.command(cls=StrictCommand)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    Examples:
      eval "$(gwclient completion bash)"
      gwclient completion fish > ~/.config/fish/completions/gwclient.fish
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click cannot complete in {shell}")
    # Its `source` also checks the version of the shell; the script is the same.
    made = kind(context.find_root().command, {}, "gwclient", "_GWCLIENT_COMPLETE")
    click.echo(made.source_template % made.source_vars())


for command in (
    *(push_command, simulate, replay),
    *(stats, desc, list_command, watch, batches, batch, manifest, segments, get),
    *(search, bundle),
    *(train, thaw, clean, verify),
    *(tiers, tier, recall),
    *(put, putlist, resume, getfile, getlist),
    *(holdings, find, meta, stat, delete, undo),
    *(listen, record, records, changes, steps, redo, forget),
    *(doctor, completion),
):
    for each in (command, *getattr(command, "commands", {}).values()):
        each.epilog = _EXIT_CODES
    gwclient.add_command(command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit; every error is one line on stderr, with --debug after its traceback."""
    sys.exit(_run(arguments))


def _option_hint(error: click.NoSuchOption) -> str:
    """Return how to write what was written as an option, or an empty text."""
    if error.ctx is None:
        return ""
    if error.ctx.parent is None:
        return " Options come after the command: gwclient stats --srv URL."
    field = error.option_name.removeprefix("--")
    if field in FIELDS and any(each.name == "query" for each in error.ctx.command.params):
        return f" A query is written in words: {field}=VALUE."
    return ""


def _run(arguments: Sequence[str] | None) -> int:
    debugging = Debugging()
    try:
        return gwclient.main(arguments, prog_name="gwclient", standalone_mode=False, obj=debugging) or 0
    except click.ClickException as error:
        hint = _option_hint(error) if isinstance(error, click.NoSuchOption) else ""
        message = error.message if hint else error.format_message()
        for of_click, plain in _TYPES.items():
            message = message.replace(of_click, plain)
        print_error(f"gwclient: {' '.join(message.split())}{hint}")
        return USAGE
    except GwclientError as error:
        if debugging.on:
            traceback.print_exc()
        if str(error):
            print_error(f"gwclient: {error}{address_hint(error)}")
        return error.exit_code
    except UnicodeEncodeError as error:
        if debugging.on:
            traceback.print_exc()
        print_error(f"gwclient: {ascii(error.object)[:80]} is not UTF-8 text")
        return USAGE
    except (KeyboardInterrupt, click.Abort):
        print_error("gwclient: interrupted")
        return INTERRUPTED
