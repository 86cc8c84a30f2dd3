"""The configuration: flags before environment before file before defaults, with the same names everywhere.

A setting ``body_idle`` is ``--body-idle``, ``STAGEDOOR_BODY_IDLE``, and ``body_idle = 60`` in ``stagedoor.toml``. The
engine's limits are the table ``limits``, how long uploads rest is ``limits.retention``: ``--limits-max-chunk``,
``STAGEDOOR_LIMITS_RETENTION_PREPROCESSED=90d``.

API keys are never in a flag, which every process of the machine can read, nor in the file, which is shown and copied:
they come from ``STAGEDOOR_KEYS``, or from a file of their own (``keys_file``).
"""

from __future__ import annotations

import difflib
import inspect
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

import attrs
from attrs import frozen

from ..errors import ConfigurationError
from ..settings import Settings
from .config import ServerConfig

__all__ = ["FILE", "SETTINGS", "Kind", "Loaded", "Setting", "load", "shown"]

FILE: Final = "stagedoor.toml"
"""Read when it is in the working directory and no other is named."""


class Kind(StrEnum):
    """What a value looks like."""

    TEXT = "text"
    PATH = "path"
    WHOLE = "whole number"
    SIZE = "size"
    SECONDS = "time"
    LASTING = "time or never"
    SWITCH = "yes or no"
    WORDS = "list"


_WANTED: Final[Mapping[Kind, str]] = {
    Kind.TEXT: "text",
    Kind.PATH: "a path",
    Kind.WHOLE: "a whole number",
    Kind.SIZE: "a number of bytes, such as 1048576 or “1 MiB”",
    Kind.SECONDS: "a number of seconds, or a time such as “90s”, “12h” or “30d”",
    Kind.LASTING: "a number of seconds, a time such as “12h” or “30d”, or “never”",
    Kind.SWITCH: "true or false",
    Kind.WORDS: "a list of texts",
}


@frozen(kw_only=True)
class Setting:
    """One thing that can be set.

    Attributes:
        name: Dotted, such as ``limits.max_chunk``.
        kind: What its value looks like.
        default: What it is when nobody says anything.
        meaning: For people.
        choices: The only values; empty for any.
    """

    name: str
    kind: Kind
    default: object
    meaning: str
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """On the command line."""
        return "--" + self.name.replace(".", "-").replace("_", "-")

    @property
    def variable(self) -> str:
        """In the environment."""
        return "STAGEDOOR_" + self.name.replace(".", "_").upper()


_SIZES: Final = frozenset({
    "header_size", "body_rate", "progress", "ask", "inbox",
    "chunk_size", "max_chunk", "max_file_size", "max_annotations", "free_floor",
})  # fmt: skip


def _meanings(cls: type) -> Mapping[str, str]:
    """What the docstring of a class says of its attributes."""
    _, _, told = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")
    found = re.findall(r"^    (\w+): (.*?)(?=\n    \w+: |\Z)", told, re.MULTILINE | re.DOTALL)
    return {name: " ".join(text.split()) for name, text in found}


def _kind(name: str, hint: object) -> tuple[Kind, tuple[str, ...]]:
    if name in _SIZES:
        return Kind.SIZE, ()
    kinds: Mapping[object, Kind] = {
        str: Kind.TEXT, Path: Kind.PATH, Path | None: Kind.PATH, int: Kind.WHOLE, float: Kind.SECONDS,
        bool: Kind.SWITCH, tuple[str, ...]: Kind.WORDS,
    }  # fmt: skip
    if hint in kinds:
        return kinds[hint], ()
    return Kind.TEXT, tuple(get_args(hint))


def _settings_of(cls: type, prefix: str, left_out: str) -> Iterator[Setting]:
    meanings, hints, usual = _meanings(cls), get_type_hints(cls), cls()
    for attribute in attrs.fields(cls):
        name = attribute.name
        if name != left_out:
            kind, choices = _kind(name, hints[name])
            yield Setting(
                name=prefix + name, kind=kind, default=getattr(usual, name), meaning=meanings.get(name, ""),
                choices=choices,
            )  # fmt: skip


SETTINGS: Final[Mapping[str, Setting]] = {
    setting.name: setting
    for setting in (
        *_settings_of(ServerConfig, "", "keys"),
        Setting(
            name="keys_file",
            kind=Kind.PATH,
            default=None,
            meaning="A file with the API keys, one a line; lines that begin with # are not read. Let nobody else read "
            "it. STAGEDOOR_KEYS goes before it.",
        ),
        *_settings_of(Settings, "limits.", "retention"),
        *(
            Setting(
                name=f"limits.retention.{state}",
                kind=Kind.LASTING,
                default=seconds,
                meaning=f"How long an upload may rest in {state} before it expires.",
            )
            for state, seconds in Settings().retention.items()
        ),
    )
}
"""All that can be set, by name, in the order in which it is shown. API keys are not among it."""

_OTHERS: Final = frozenset({
    "STAGEDOOR_CONFIG", "STAGEDOOR_KEYS", "STAGEDOOR_SERVER", "STAGEDOOR_KEY",  # the place of the file; the client's
    "STAGEDOOR_DOCS", "STAGEDOOR_EXAMPLES",  # of the project's own tests
})  # fmt: skip
_OF_KUBERNETES: Final = re.compile(r"STAGEDOOR_(?:SERVICE_(?:HOST|PORT)(?:_.*)?|PORT_\d+_(?:TCP|UDP)(?:_.*)?)")
"""Where a service is called stagedoor, its containers get these without being asked (“service links”)."""

_DEFAULT: Final = "default"


@frozen(kw_only=True)
class Loaded:
    """A configuration, and where it comes from.

    Attributes:
        config: The server's.
        settings: The engine's.
        values: Every value by the name of its setting.
        places: Where each comes from: a flag, a variable, a file, or ``default``; also for ``keys``.
    """

    config: ServerConfig
    settings: Settings
    values: Mapping[str, object]
    places: Mapping[str, str]


def load(
    flags: Mapping[str, str | Sequence[str]] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    file: str | os.PathLike[str] | None = None,
) -> Loaded:
    """Put the configuration together.

    Args:
        flags: What the command line says, as text, by name of the setting; several texts for a list.
        environ: The environment; that of the process when not given.
        file: Path of the file. Else it is ``STAGEDOOR_CONFIG``, or ``stagedoor.toml`` if there is one.

    Raises:
        ConfigurationError: ``unknown_setting``, ``invalid_setting``, ``configuration_file``, or as `ServerConfig` and
            `Settings`; the sentence names the place.
    """
    environ = os.environ if environ is None else environ
    values = {name: setting.default for name, setting in SETTINGS.items()}
    places = dict.fromkeys((*SETTINGS, "keys"), _DEFAULT)
    for found in (_from_file(file, environ), _from_environment(environ), _from_flags(flags or {})):
        for name, (value, place) in found.items():
            values[name], places[name] = value, place
    keys: tuple[str, ...] = ()
    if environ.get("STAGEDOOR_KEYS"):
        keys, places["keys"] = tuple(environ["STAGEDOOR_KEYS"].replace(",", " ").split()), "STAGEDOOR_KEYS"
    elif values["keys_file"] is not None:
        keys, places["keys"] = _keys(Path(str(values["keys_file"])), places["keys_file"]), str(values["keys_file"])
    own: dict[str, Any] = {attribute.name: values.get(attribute.name) for attribute in attrs.fields(ServerConfig)}
    limits: dict[str, Any] = {
        attribute.name: values.get(f"limits.{attribute.name}") for attribute in attrs.fields(Settings)
    }
    limits["retention"] = {state: values[f"limits.retention.{state}"] for state in Settings().retention}
    try:
        config, settings = ServerConfig(**{**own, "keys": keys}), Settings(**limits)
    except ConfigurationError as error:
        raise _placed(error, places) from None
    return Loaded(config=config, settings=settings, values=values, places=places)


_Found = Mapping[str, tuple[object, str]]


def _from_flags(flags: Mapping[str, str | Sequence[str]]) -> _Found:
    return {
        name: (_read(SETTINGS[name], given, SETTINGS[name].flag), SETTINGS[name].flag) for name, given in flags.items()
    }


def _from_environment(environ: Mapping[str, str]) -> _Found:
    known = {setting.variable: setting for setting in SETTINGS.values()}
    found = {}
    for variable, given in environ.items():
        if not variable.startswith("STAGEDOOR_") or variable in _OTHERS or _OF_KUBERNETES.fullmatch(variable):
            continue
        if variable not in known:
            raise _unknown(variable, "the environment", [*known, "STAGEDOOR_CONFIG", "STAGEDOOR_KEYS"])
        if given:  # an empty variable is none, as everywhere in shells
            found[known[variable].name] = (_read(known[variable], given, variable), variable)
    return found


def _from_file(given: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> _Found:
    named = given or environ.get("STAGEDOOR_CONFIG")
    path = Path(named or FILE)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if named:
            raise ConfigurationError(f"There is no configuration file {path}.", code="configuration_file") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(f"{path} cannot be read: {why}.", code="configuration_file") from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is no TOML: {error}.", code="configuration_file") from None
    return {name: (value, str(path)) for name, value in _of_table(document, "", path)}


def _of_table(table: Mapping[str, object], prefix: str, path: Path) -> Iterator[tuple[str, object]]:
    names = {name.removeprefix(prefix).partition(".")[0] for name in SETTINGS if name.startswith(prefix)}
    for key, value in table.items():
        name = prefix + key
        if name == "keys":
            raise ConfigurationError(
                f"{path}: API keys do not belong into this file. Put them into one of their own (keys_file), or into "
                "STAGEDOOR_KEYS.",
                code="invalid_setting",
            )
        if key not in names:
            where = f"{path}, table {prefix[:-1]}" if prefix else f"{path}"
            raise _unknown(key, where, sorted(names))
        if name in SETTINGS:
            yield name, _read(SETTINGS[name], value, f"{path}: {name}", base=path.parent)
        elif isinstance(value, Mapping):
            yield from _of_table(value, f"{name}.", path)
        else:
            raise ConfigurationError(f"{path}: {name} must be a table, [{name}].", code="invalid_setting")


def _keys(path: Path, place: str) -> tuple[str, ...]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(f"{place}: {path} cannot be read: {why}.", code="configuration_file") from None
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:  # silently serving without a key would be the opposite of what was meant
        raise ConfigurationError(f"{place}: there is no key in {path}.", code="invalid_setting")
    return keys


def _unknown(name: str, where: str, known: Sequence[str]) -> ConfigurationError:
    near = difflib.get_close_matches(name, known, 1)
    meant = f" Is {near[0]} meant?" if near else ""
    return ConfigurationError(f"{where}: there is no setting {name}.{meant}", code="unknown_setting")


def _placed(error: ConfigurationError, places: Mapping[str, str]) -> ConfigurationError:
    """With the places of the settings that the sentence is about."""
    for name, place in places.items():
        if place != _DEFAULT and re.search(rf"\b(?<!--){name.rpartition('.')[2]}\b", error.sentence):
            return ConfigurationError(f"{place}: {error.sentence}", code=error.code)
    return error


# ── values ────────────────────────────────────────────────────────────────────────────────────────────────────

_UNITS: Final[Mapping[str, int]] = {
    "": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
}  # fmt: skip
_TIMES: Final[Mapping[str, float]] = {"": 1, "ms": 0.001, "s": 1, "min": 60, "m": 60, "h": 3_600, "d": 86_400}
_AMOUNT: Final = re.compile(r"([0-9][0-9_]*(?:\.[0-9]+)?)\s*([A-Za-z]*)")
_SWITCH: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}


def _read(setting: Setting, given: object, place: str, *, base: Path | None = None) -> object:
    """The value of a setting.

    Args:
        setting: Which.
        given: Text, several texts, or what TOML made of it.
        place: Who says so, for people.
        base: Where relative paths begin, in a file; ``None`` for text of a flag or the environment.
    """
    text = base is None
    value = _read_text(setting.kind, given) if text else _read_toml(setting.kind, given, base or Path())
    if value is None or (setting.choices and value not in setting.choices):
        wanted = " or ".join(setting.choices) or _WANTED[setting.kind]
        raise ConfigurationError(f"{place} must be {wanted}, not {str(given)[:80]!r}.", code="invalid_setting")
    return None if value == "never" and setting.kind is Kind.LASTING else value


def _read_text(kind: Kind, given: object) -> object:
    if kind is Kind.WORDS:
        texts = [given] if isinstance(given, str) else list(given) if isinstance(given, Sequence) else []
        return tuple(word for text in texts for word in str(text).replace(",", " ").split())
    text = str(given).strip()
    if kind is Kind.SWITCH:
        return _SWITCH.get(text.lower())
    if kind is Kind.WHOLE:
        return int(text) if re.fullmatch(r"-?[0-9][0-9_]*", text) and "__" not in text else None
    if kind is Kind.PATH:
        return Path(text) if text else None
    return text if kind is Kind.TEXT else _amount(kind, text)


def _read_toml(kind: Kind, given: object, base: Path) -> object:
    number = isinstance(given, int | float) and not isinstance(given, bool)
    if kind is Kind.SWITCH:
        return given if isinstance(given, bool) else None
    if kind in (Kind.WHOLE, Kind.SIZE) and number:
        return given if isinstance(given, int) else None
    if kind in (Kind.SECONDS, Kind.LASTING) and isinstance(given, int | float) and number:
        return float(given)
    if kind is Kind.WORDS:
        return tuple(given) if isinstance(given, list) and all(isinstance(word, str) for word in given) else None
    if not isinstance(given, str) or kind is Kind.WHOLE:
        return None
    if kind is Kind.PATH:
        return base / given if given else None
    return given if kind is Kind.TEXT else _amount(kind, given.strip())


def _amount(kind: Kind, text: str) -> object:
    if kind is Kind.LASTING and text.lower() == "never":
        return "never"
    found = _AMOUNT.fullmatch(text)
    if found is None or "__" in found[1] or found[1].endswith("_"):
        return None
    units: Mapping[str, float] = _UNITS if kind is Kind.SIZE else _TIMES
    unit = units.get(found[2].lower())
    if unit is None:
        return None
    amount = float(found[1]) * unit
    if kind is not Kind.SIZE:
        return amount
    return int(found[1]) * int(unit) if "." not in found[1] else int(amount)


def shown(setting: Setting, value: object) -> str:
    """A value for people, in a form that can be read again."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "–"
    if setting.kind is Kind.LASTING and value is None:
        return "never"
    if value is None:
        return "–"
    if isinstance(value, int) and setting.kind is Kind.SIZE:
        units = (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
        return next((f"{value // size} {unit}" for unit, size in units if value and value % size == 0), str(value))
    if isinstance(value, float):
        for unit, seconds in (("d", 86_400), ("h", 3_600)):
            if value and value % seconds == 0:
                return f"{value / seconds:.0f}{unit}"
        return f"{value:g}s"
    return str(value)
