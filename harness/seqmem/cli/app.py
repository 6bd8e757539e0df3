"""The application the verbs hang on: global options, exit codes, and errors as one line."""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Collection, Sequence
from errno import ENAMETOOLONG
from typing import Annotated

import typer

from seqmem.cli.terminal import warn
from seqmem.core.disk import is_full
from seqmem.core.errors import RunFailed, SeqmemError, UsageError
from seqmem.core.version import __version__
from seqmem.plugin.registry import Registry

OK, FAILED, USAGE, PARTIAL = 0, 1, 2, 3
"""Exit codes: all is well, a run failed, the request cannot be carried out, only a part of it was done."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

LONGEST = 2000
"""Characters of an error's line that are shown: names may be of any length."""

# Typer's rich help costs a quarter of a second, most of what `--help` may take.
app = typer.Typer(
    name="seqmem",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Continual-learning benchmarks for language models.",
    epilog="Exit codes: 0 all well, 1 a run failed, 2 wrong usage, 3 done in part.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

# BadParameter is public; its base is the class of every usage error, whichever click typer carries.
_WrongUsage: type[Exception] = typer.BadParameter.__mro__[1]


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"seqmem {__version__}")
        raise typer.Exit()


@app.callback()
def _global_options(
    ctx: typer.Context,
    plugin: Annotated[
        list[str] | None,
        typer.Option(
            "-p", metavar="no:NAME", help="Leave out the plugin or distribution NAME; may be repeated."
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    disabled = set()
    for text in plugin or ():
        prefix, _, name = text.partition(":")
        if prefix != "no" or not name:
            raise UsageError(f"-p {text}: write -p no:NAME to leave out the plugin NAME")
        disabled.add(name)
    ctx.obj = frozenset(disabled)


def disabled_plugins(ctx: typer.Context) -> frozenset[str]:
    """Return the plugins that `-p no:NAME` leaves out."""
    return frozenset(ctx.find_root().obj or ())


def registry(ctx: typer.Context) -> Registry:
    """Return the plugins of this environment less those left out."""
    return Registry.from_environment(disabled_plugins(ctx))


def exit_code(interrupted: bool, failed: bool, left_out: bool) -> int:
    """Return the exit code of a verb that ran something."""
    if interrupted:
        return INTERRUPTED
    if failed:
        return FAILED
    return PARTIAL if left_out else OK


def warn_left_out(lines: Collection[str]) -> int:
    """Name what was left out on standard error; returns the exit code of a verb that did the rest."""
    for line in lines:
        warn(f"seqmem: left out: {line}")
    return PARTIAL if lines else OK


def run(arguments: Sequence[str]) -> int:
    """Carry out a command line; returns the exit code. Errors become one line on stderr."""
    try:
        _check_texts(arguments)
        result = app(args=list(arguments) or ["--help"], prog_name="seqmem", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else OK
    except _WrongUsage as error:
        return _fail(_usage_text(error), USAGE)
    except SeqmemError as error:
        return _fail(str(error), FAILED if isinstance(error, RunFailed) else USAGE)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader (`| head`) has gone; keep the interpreter from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except OSError as error:
        if is_full(error):
            return _fail("the disk is full: make room and give the command again", FAILED)
        if error.filename is None:
            raise
        return _fail(f"{error.filename}: {error.strerror}", USAGE if error.errno == ENAMETOOLONG else FAILED)


def _check_texts(arguments: Sequence[str]) -> None:
    """Refuse what no option can mean: nothing, such as an empty variable of the shell, and bytes that are no text."""
    for before, argument in itertools.pairwise(["", *arguments]):
        if not argument or re.fullmatch(r"--[a-z-]+=", argument):
            named = before if not argument else argument.rstrip("=")
            raise UsageError(f"{named or 'an argument'} has an empty value; give one or leave it out")
        if not argument.isprintable() and any("\ud800" <= sign <= "\udfff" for sign in argument):
            raise UsageError(
                f"{argument!r} is not text in UTF-8; rename the file, or set the locale it was typed in"
            )


def _usage_text(error: Exception) -> str:
    """Return the text of a usage error of the command-line parser, with where to look things up."""
    message = getattr(error, "format_message", error.__str__)()
    context = getattr(error, "ctx", None)
    return f"{message.rstrip('.')}. See {context.command_path} --help." if context is not None else message


def _fail(text: str, code: int) -> int:
    """Print the error line."""
    line = " ".join(text.split())
    warn(
        f"seqmem: error: {line if len(line) <= LONGEST else f'{line[:LONGEST]} ... ({len(line):,} characters)'}"
    )
    return code
