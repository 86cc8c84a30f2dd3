"""``stagedoor serve`` and ``stagedoor config``."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from typing import Final

from ..errors import ConfigurationError
from ..server.loading import SETTINGS, Kind, Loaded, Setting, load, shown
from . import Usual
from .call import Call

__all__ = ["register"]

_METAVARS: Final = {
    Kind.PATH: "PATH",
    Kind.WHOLE: "N",
    Kind.SIZE: "SIZE",
    Kind.SECONDS: "TIME",
    Kind.LASTING: "TIME",
    Kind.SWITCH: "true|false",
}
_DEST: Final = "setting."


def register(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands to a parser."""
    for name, run, sentence in (
        ("serve", _serve, "Serve uploads over HTTP and WebSocket: tus, resumable uploads, an API and a page."),
        ("config", _config, "Show the configuration of the server, and where each value comes from."),
    ):
        made = command(name, run, sentence)
        made.allow_abbrev = False  # else --keys would be taken for --keys-file, and a key for a name that may be shown
        made.add_argument(
            "--config", dest="config_file", metavar="FILE", help="the configuration ($STAGEDOOR_CONFIG, stagedoor.toml)"
        )
        server = made.add_argument_group("the server", "Each of these may be in the file, too (docs: configuration).")
        limits = made.add_argument_group("limits", "Sizes as in “16 MiB”, times as in “90s”, “12h” or “30d”.")
        for setting in SETTINGS.values():
            if setting.flag not in made._option_string_actions:  # else it is one of the common options
                _flag(limits if setting.name.startswith("limits.") else server, setting)


def _flag(group: argparse._ArgumentGroup, setting: Setting) -> None:
    usual = shown(setting, setting.default)
    meaning = setting.meaning.replace("``", "").replace("`", "").rstrip(".")
    group.add_argument(
        setting.flag,
        dest=_DEST + setting.name,
        default=argparse.SUPPRESS,
        choices=setting.choices or None,
        action="append" if setting.kind is Kind.WORDS else "store",
        metavar=None if setting.choices else _METAVARS.get(setting.kind, "TEXT"),
        help=(meaning if usual == "–" else f"{meaning} ({usual})").replace("%", "%%"),
    )


def _load(call: Call) -> Loaded:
    """The configuration, with what the command line says."""
    flags = {}
    for name in SETTINGS:
        given = getattr(call.options, _DEST + name, None)
        if given is None:
            given = getattr(call.options, name, None)
            if isinstance(given, Usual):
                continue
        if given is not None:
            flags[name] = given
    loaded = load(flags, file=call.options.config_file)
    call.options.data = os.fspath(loaded.config.data)  # what is told of a directory in use is told of this one
    return loaded


def _serve(call: Call) -> int:
    loaded = _load(call)
    config = loaded.config
    try:
        from ..server.logs import logging_to
        from ..server.run import serve
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"The server needs the package {error.name}: pip install 'stagedoor[server]'", code="missing_package"
        ) from None

    def ready(address: str) -> None:
        if call.options.json:
            call.out.raw(json.dumps({"address": address, "pid": os.getpid()}))
        else:
            call.out.say(f"Serving {address}", "bold")
            call.out.say(f"Uploads in {os.path.abspath(config.data)}, the library in {os.path.abspath(config.music)}.")
            if not config.keys:
                call.out.say("Without an API key: whoever is on this machine may do everything.")
            call.out.say("Ctrl-C stops it; what is on its way is kept.")
        call.out.stream.flush()

    with logging_to(call.err.stream, config.log, keys=config.keys, debug=call.options.verbose):
        return serve(config, loaded.settings, ready=ready)


def _config(call: Call) -> int:
    loaded = _load(call)
    number = len(loaded.config.keys)
    if call.options.json:
        call.out.json(
            {
                "settings": {
                    name: {"value": _plain(loaded.values[name]), "from": loaded.places[name]} for name in SETTINGS
                },
                "keys": {"number": number, "from": loaded.places["keys"]},
            }
        )
        return 0
    rows = [(name, shown(setting, loaded.values[name]), loaded.places[name]) for name, setting in SETTINGS.items()]
    rows.append(("keys", f"{number} (hidden)" if number else "none", loaded.places["keys"]))
    call.out.table(
        ("setting", "value", "from"),
        [(name, value, (place, "dim" if place == "default" else "green")) for name, value, place in rows],
    )
    return 0


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return value if value is None or isinstance(value, int | float) else str(value)
