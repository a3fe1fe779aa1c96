"""`ciad`: every capability of the engine without a window.

Importing this package, `ciad --version` and `ciad --help` import no torch. A command's own module is
imported when it is the one asked for. This module imports next to nothing before `main` answers Ctrl+C.

Exit codes: 0 done; 1 failed, with a message; 2 wrong use; 130 cancelled with Ctrl+C, 143 with SIGTERM;
141 the reader of the output went away.
"""

from __future__ import annotations

import os
import sys

try:
    from typing import TYPE_CHECKING

    from ciad_engine import __version__, process
except KeyboardInterrupt:  # nobody answers signals yet
    os._exit(130)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from ciad_engine.cli import console

DONE, FAILED, WRONG_USE, BROKEN_PIPE = 0, 1, 2, 141

# Each module has `add(parser)`, which declares its flags and sets `run(arguments, job) -> exit code`.
_COMMANDS = {
    "info": "what is installed and found: paste it in a bug report",
    "data": "download CIFAR-10, or describe a data set",
    "train": "train all networks of a system and write a bundle",
    "attack": "make adversarial images of pictures and save them",
    "inspect": "decide whether pictures are adversarial, and explain why",
    "evaluate": "attack and inspect a data set: the paper's tables",
    "masks": "put masks to the test, beside other maps of what f1 needs",
    "harmless": "flag harmlessly changed images: false positive rates of all detectors",
    "figures": "the paper's figures, of any bundle and data",
    "runs": "list, show, export or delete evaluations",
    "bundles": "list or show trained systems, or keep tables beside their cards",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after `ciad`; those of the process if None.

    Returns:
        The exit code, see above. Nothing is raised for anything a person or the outside world did.
    """
    process.open_streams()
    with process.Signals("ciad", whole_process=argv is None) as signals:
        try:
            return _main(list(sys.argv[1:] if argv is None else argv), signals)
        except KeyboardInterrupt:  # before there was a job, or again while the first one was answered
            signals.say()
            return signals.code


def _main(words: Sequence[str], signals: process.Signals) -> int:
    """Run one command; what it raises becomes a message and an exit code."""
    from ciad_engine.cli import console

    console.forgive_encoding()
    debug = "--debug" in words
    job = console.ConsoleJob("--quiet" in words or "-q" in words)
    signals.ask = job.interrupt
    with process.fenced():
        try:
            try:
                return _run(words, job)
            finally:
                job.clear()
        except (Exception, KeyboardInterrupt) as error:
            code, text = _explain(error, job.continuing, debug, signals)
            if debug and code == FAILED:
                import traceback

                traceback.print_exception(error)
            if text:
                job.line(f"ciad: {text}")
            console.flush_stdout()
            return code


def _run(words: Sequence[str], job: console.ConsoleJob) -> int:
    from ciad_engine import memory
    from ciad_engine.cli.options import WrongUse

    try:
        parser = _parser(words)
        if not words:
            parser.print_help(sys.stderr)
            return WRONG_USE
        arguments, unknown = parser.parse_known_args(words)
        if unknown:
            arguments.parser.error(_unknown(unknown, arguments.parser))
        memory.keep_freed()
        try:
            code: int = arguments.run(arguments, job)
        except WrongUse as error:
            job.clear()
            arguments.parser.error(str(error))
    except SystemExit as leaving:  # argparse has printed its help or its complaint
        code = leaving.code if isinstance(leaving.code, int) else DONE
    sys.stdout.flush()  # here, where a broken pipe can still be caught
    return code


def _unknown(words: Sequence[str], parser: argparse.ArgumentParser) -> str:
    """What to say of words the command does not know; near flags are named."""
    import difflib

    flags = [flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")]
    near = [found for word in words for found in difflib.get_close_matches(word.partition("=")[0], flags, n=1)]
    hint = f" (did you mean {' '.join(near)}?)" if near else ""
    return f"unrecognized arguments: {' '.join(words)}{hint}"


def _explain(error: BaseException, continuing: str, debug: bool, signals: process.Signals) -> tuple[int, str]:
    """Exit code and message, one line, of what ended a command."""
    from ciad_engine import memory
    from ciad_engine.cli import console
    from ciad_engine.errors import CiadError, said
    from ciad_engine.jobs import Cancelled

    text = " ".join(said(error).split())
    if isinstance(error, (Cancelled, KeyboardInterrupt)):
        return signals.code, f"cancelled. {continuing}".rstrip()
    if isinstance(error, BrokenPipeError):
        console.silence_stdout()
        return BROKEN_PIPE, ""
    if isinstance(error, CiadError):
        return FAILED, text
    if memory.ran_out(error):
        return FAILED, memory.shortage("this command")
    if isinstance(error, OSError) and error.strerror:
        return FAILED, f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    hint = "" if debug else " (this is a bug; run again with --debug and report what it prints)"
    return FAILED, f"unexpected {type(error).__name__}: {text or 'no message'}{hint}"


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The whole parser; only the command among `words` gets its flags, the others a line of help."""
    import argparse
    import importlib

    from ciad_engine.cli.options import Parser

    common = Parser(add_help=False)
    group = common.add_argument_group("for every command")
    # Both are read from the words themselves, before anything is parsed; hence no default here.
    for flags, text in (
        (("-q", "--quiet"), "no progress and no notes on stderr"),
        (("--debug",), "show where errors arise"),
    ):
        group.add_argument(*flags, action="store_true", default=argparse.SUPPRESS, help=text)

    parser = Parser(
        prog="ciad",
        description="Attack image classifiers, and detect adversarial images by contrasting the class with where the "
        "classifier looks.",
        epilog="`ciad COMMAND --help` explains a command. Exit codes: 0 done, 1 failed, 2 wrong use, 130 or 143 "
        "cancelled.",
        parents=[common],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ciad {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    chosen = next((word for word in words if not word.startswith("-")), None)
    for name, text in _COMMANDS.items():
        command = commands.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", parents=[common], allow_abbrev=False
        )
        command.set_defaults(parser=command)
        if name == chosen:
            importlib.import_module(f"ciad_engine.cli.{name}").add(command, common)
    return parser
