"""The command line: ``stagedoor add clip.mp4``, ``stagedoor list``, ``stagedoor explain ID`` …

Commands that look need no lock: they read the documents as they are, beside a server that owns the directory, and
change nothing. Commands that change go through that server; without one they own the directory for as long as they run,
and do what is due for their own uploads themselves.

Exit codes::

    0    fine
    1    it failed, or was refused; the sentence says why
    2    wrong usage, or a configuration that cannot work
    3    there is no such upload, or no such file
    4    another process owns the uploads directory, and cannot be asked
    5    somebody has to say something first: an annotation is missing, a question is open
    130  stopped by Ctrl-C (143 by SIGTERM); the same command again goes on
    141  whoever read the output went away

What strangers wrote (names, annotations, reasons) reaches a terminal through `safe` only.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from . import __version__
from .commands import FAILED, READER_GONE, USAGE, Usual, change, completion, cycle, doctor, look
from .commands import add as adding
from .commands import serve as serving
from .commands import upload as uploading
from .commands.call import Call, an_id, sentence_of
from .commands.screen import Screen, safe
from .commands.stopping import Stopped
from .errors import UploadError
from .ports import Clock

__all__ = ["main", "safe"]

_DURABILITIES: Final = ("power", "process", "none")


def main(argv: Sequence[str] | None = None, *, clock: Clock = time.time) -> int:
    """Run a command.

    Args:
        argv: The arguments; those of the process when not given.
        clock: Seconds since the epoch.

    Returns:
        The exit status.
    """
    try:
        options = _parser().parse_args(argv)
    except SystemExit as done:  # argparse has said what there is to say
        return done.code if isinstance(done.code, int) else USAGE
    call = Call(options, Screen(sys.stdout), Screen(sys.stderr), clock)
    with _logging(call.err, everything=options.verbose):
        try:
            status = _run(call)
            sys.stdout.flush()
        except BrokenPipeError:
            _drop_output()
            return READER_GONE
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        except OSError as error:  # the output cannot be written
            _drop_output()
            call.err.say(f"stagedoor: {sentence_of(error)}", "red")
            return FAILED
    return status


def _run(call: Call) -> int:
    try:
        return int(call.options.run(call))
    except BrokenPipeError:
        raise
    except Stopped as stopped:
        call.err.say("Stopped. What was done is on record; the same command again goes on.")
        return stopped.status
    except (UploadError, OSError) as error:
        if isinstance(error, OSError) and error.filename is None:
            raise
        return call.fail(error)


def _drop_output() -> None:
    """Let the interpreter's last flush go nowhere, or it would complain after us (docs.python.org, SIGPIPE)."""
    with suppress(OSError, ValueError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)


@contextmanager
def _logging(screen: Screen, *, everything: bool) -> Iterator[None]:
    """Show what the library logs: the unexpected only, if not everything, for commands say themselves what is up."""
    log = logging.getLogger("stagedoor")
    level, handler = log.level, _ScreenHandler(screen)
    if everything:
        log.setLevel(logging.INFO)
    else:
        handler.addFilter(lambda record: record.exc_info is not None)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


class _ScreenHandler(logging.Handler):
    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        for line in self.format(record).splitlines():
            self._screen.say(f"{record.levelname.lower()}: {line}", "dim")


_EXITS: Final = """\
exit codes: 0 fine, 1 failed or refused, 2 usage or configuration, 3 not found, 4 the uploads directory is in use,
5 somebody has to say something first (an annotation is missing, a question is open), 130 stopped by Ctrl-C
"""


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="stagedoor",
        description="Uploads into a music server: every file goes through one life cycle, durably.",
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"stagedoor {__version__}")
    _common(top, defaults=True)
    top.set_defaults(run=lambda call: _no_command(top))
    commands = top.add_subparsers(title="commands", metavar="COMMAND")

    def command(name: str, run: Callable[[Call], int], sentence: str, arguments: str = "") -> argparse.ArgumentParser:
        made = commands.add_parser(
            name, help=sentence, description=sentence, usage=f"stagedoor {name} [options] {arguments}".rstrip()
        )
        if arguments.startswith("ID"):
            made.add_argument("id", metavar="ID", type=an_id, help="the upload: its id, or enough of its beginning")
        _common(made, defaults=False)
        made.set_defaults(run=run)
        return made

    for module in (adding, look, change, cycle, doctor):
        module.register(command)
    completion.register(command, top)
    for module in (serving, uploading):
        module.register(command)
    return top


def _common(parser: argparse.ArgumentParser, *, defaults: bool) -> None:
    """Options that may stand before the command and behind it; the defaults belong to the place in front."""
    group = parser.add_argument_group("common options")

    def add(*names: str, default: object, **how: Any) -> None:
        usual = Usual(default) if isinstance(default, str) else default
        group.add_argument(*names, default=usual if defaults else argparse.SUPPRESS, **how)

    env = os.environ.get
    add(
        "--data",
        default=env("STAGEDOOR_DATA") or "uploads",
        metavar="DIR",
        help="uploads directory ($STAGEDOOR_DATA, or uploads)",
    )
    add(
        "--music",
        default=env("STAGEDOOR_MUSIC") or "Music",
        metavar="DIR",
        help="the library ($STAGEDOOR_MUSIC, or Music)",
    )
    add(
        "--artwork", default=env("STAGEDOOR_ARTWORK"), metavar="DIR",
        help="its artwork ($STAGEDOOR_ARTWORK, or artwork beside the uploads directory)",
    )  # fmt: skip
    add(
        "--naming", default=env("STAGEDOOR_NAMING") or "musicdb", metavar="SCHEME",
        help="how files are named: musicdb, navidrome, beets, jellyfin ($STAGEDOOR_NAMING, or musicdb)",
    )  # fmt: skip
    add("--durability", default="power", choices=_DURABILITIES, help="what an acknowledgement survives (power)")
    add("--json", default=False, action="store_true", help="for scripts: one JSON document")
    add("-v", "--verbose", default=False, action="store_true", help="say what the library logs")


def _no_command(parser: argparse.ArgumentParser) -> int:
    parser.print_help(sys.stderr)
    return USAGE
