"""Commands about the life cycle itself: ``verify``, ``diagram``, ``table``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Final

from ..errors import ConfigurationError
from ..explain import size
from ..tasks import extension_of
from . import FAILED, FINE
from .call import Call, an_id
from .screen import Level

__all__ = ["register"]

_FORMATS: Final = ("dot", "mermaid", "plantuml", "scxml", "json", "markdown", "svg", "png")


def register(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands to a parser."""
    command("verify", _verify, "Put the life cycle on trial: all cases, and all mistakes.")
    diagram = command("diagram", _diagram, "Draw the life cycle.")
    diagram.add_argument("--format", choices=_FORMATS, help="by the name of the output when not given, else dot")
    diagram.add_argument("--task", dest="id", type=an_id, metavar="ID", help="show where this upload stands")
    diagram.add_argument("-o", "--output", metavar="FILE", help="where to write it")
    table = command("table", _table, "Print the table of the life cycle.")
    table.add_argument("--format", choices=("markdown", "json"), help="markdown when not given")


def _verify(call: Call) -> int:
    from ..verify import verify

    with call.err.busy("Putting the life cycle on trial …"):
        report = verify()
    if call.options.json:
        call.out.json(report.as_dict())
        return FINE if report.ok else FAILED
    found, out = report.as_dict(), call.out
    for problem in report.problems:
        out.sign("bad", problem)
    if not report.problems:
        out.sign("good", f"All {found['cases']:,} events in all states do what the specification says.")
        out.sign("good", f"Each of the {found['rows']:,} rows is taken at least once.")
        killed, equal = f"{found['killed']:,} are noticed", f"{found['equivalent']:,} make no difference"
        level: Level = "bad" if report.survivors else "good"
        out.sign(level, f"Of {found['mutants']:,} mistakes that could be made in the table {killed}, {equal}.")
    for survivor in report.survivors:
        out.sign("bad", survivor)
    return FINE if report.ok else FAILED


def _diagram(call: Call) -> int:
    from .. import diagrams

    options = call.options
    target = options.output
    wanted = options.format or ("json" if options.json else extension_of(target or "") or "dot")
    wanted = {"md": "markdown", "gv": "dot", "mmd": "mermaid", "puml": "plantuml"}.get(wanted, wanted)
    if wanted not in _FORMATS:
        raise ConfigurationError(f"{target}: no format is known for this name. Say one with --format.")
    if wanted == "png" and target is None and call.out.stream.isatty():
        raise ConfigurationError("A picture is nothing for a terminal. Say where to write it with -o FILE.")
    task = call.task() if options.id else None
    made: str | bytes = getattr(diagrams, "json_text" if wanted == "json" else wanted)(task=task)
    if target is not None:
        with open(target, "wb") as file:
            file.write(made.encode() if isinstance(made, str) else made)
        call.err.sign("good", f"{target} is written ({size(os.path.getsize(target))}).")
    elif isinstance(made, str):
        call.out.raw(made)
    else:
        call.out.binary(made)
    return FINE


def _table(call: Call) -> int:
    from .. import diagrams

    wanted = call.options.format or ("json" if call.options.json else "markdown")
    call.out.raw(diagrams.json_text() if wanted == "json" else diagrams.markdown())
    return FINE
