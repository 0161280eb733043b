"""`gwclient completion`: what a shell needs to complete commands and options."""

import click
from click.shell_completion import get_completion_class

from gwclient.exits import EXIT_CODES


@click.command(epilog=EXIT_CODES)
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
    # Its `source` would first look for the shell itself, to know its version; the script is the same.
    made = kind(context.find_root().command, {}, "gwclient", "_GWCLIENT_COMPLETE")
    click.echo(made.source_template % made.source_vars())
