"""Uploads as values, and the JSON documents in which they are kept.

`UploadTask` is frozen: an event makes a new one. `dump` and `load` are the only places that know the document;
`load` takes every schema version that ever was, back to the task files that MusicDB 7 wrote.
"""

from __future__ import annotations

import hashlib
import math
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, cast, get_args

import cattrs
import orjson
from attrs import field, fields, frozen
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn
from cattrs.preconf.orjson import make_converter

from .errors import Refused, TooLarge, UploadError
from .lifecycle import STORED_STATES, State, Trigger

__all__ = [
    "JSON",
    "SCHEMA",
    "SPECIFICATION_KEYS",
    "Annotations",
    "Event",
    "Finding",
    "InvalidDocument",
    "Offer",
    "PlacedFile",
    "Plan",
    "PlannedFile",
    "Severity",
    "Step",
    "UploadTask",
    "check_annotations",
    "check_id",
    "dump",
    "evolve",
    "extension_of",
    "freeze",
    "load",
    "new_uid",
    "pending_name",
    "thaw",
]

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
Annotations: TypeAlias = Mapping[str, JSON]
Severity: TypeAlias = Literal["reject", "hold", "warn"]

SCHEMA: Final = 2
"""Version of the document that this code writes."""

SPECIFICATION_KEYS: Final = (
    "id", "filesize", "offset", "contenttype", "mimetype", "sourcefilename", "sourcechecksum", "destinationpath",
    "videofile", "artworkfile", "state", "annotations",
)  # fmt: skip
"""Keys of a task in the specification, the only ones in a task file of MusicDB 7."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_CHECKSUM = re.compile(r"[0-9a-f]{40}")
_EXTENSION = re.compile(r"[a-z0-9]{1,8}")
_CONTENTTYPE = re.compile(r"[a-z][a-z0-9]{0,31}")
_HISTORY: Final = 200


class InvalidDocument(UploadError):
    """A stored document is torn, foreign, or not what its name says."""

    default_code = "invalid_document"


# ── frozen JSON ───────────────────────────────────────────────────────────────────────────────────────────────


def freeze(value: JSON) -> JSON:
    """A copy of a JSON value that cannot be changed: mappings and tuples all the way down."""
    if isinstance(value, Mapping):
        return MappingProxyType({key: freeze(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    return value


def thaw(value: JSON) -> Any:
    """A copy of a JSON value made of plain dictionaries and lists, for callers that want to change it.

    Typed ``Any`` because a caller knows the shape of its own JSON better than the type system can.
    """
    kind = type(value)
    if kind is str or kind is int:  # the most frequent, and to ask for a Mapping takes longest
        return value
    if isinstance(value, Mapping):
        return {key: thaw(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [thaw(item) for item in value]
    return value


def _frozen_mapping(value: Mapping[str, JSON]) -> Mapping[str, JSON]:
    if type(value) is MappingProxyType:  # frozen before: a task is copied several times an event
        return value
    return cast("Mapping[str, JSON]", freeze(value))


_EMPTY: Mapping[str, JSON] = MappingProxyType({})


# ── checks of what strangers send ─────────────────────────────────────────────────────────────────────────────


def new_uid() -> str:
    """A random name, never used again: 32 hexadecimal digits (128 bits)."""
    return secrets.token_hex(16)


def check_id(uploadid: str) -> str:
    """Refuse an upload id that could be anything but a plain file name.

    Source: upload ids become file names, so only ``[A-Za-z0-9][A-Za-z0-9._-]{0,127}`` is allowed.

    Raises:
        TypeError: It is not a string.
        Refused: ``invalid_id``.
    """
    if not isinstance(uploadid, str):
        raise TypeError(f"The upload id must be a str, not {type(uploadid).__name__}.")
    if not _ID.fullmatch(uploadid):
        raise Refused(
            "The upload id must be 1 to 128 letters, digits, dots, dashes or underscores and start with a letter "
            f"or digit; this is {uploadid[:40]!r}.",
            code="invalid_id",
        )
    return uploadid


def pending_name(contenttype: str, extension: str) -> str:
    """Name of the uploaded file until its checksum is verified."""
    return f"{contenttype}-pending.{extension}"


def extension_of(filename: str) -> str | None:
    """The extension of a file name in lower case without the dot, or ``None`` when it has none or an odd one."""
    stem, dot, extension = filename.replace("\\", "/").rpartition("/")[2].rpartition(".")
    extension = extension.lower()
    return extension if dot and stem and _EXTENSION.fullmatch(extension) else None


def check_annotations(value: Mapping[str, JSON], *, max_bytes: int, max_depth: int) -> Mapping[str, JSON]:
    """Parse annotations into a frozen mapping.

    Args:
        value: What somebody sent.
        max_bytes: The most that the annotations may take as JSON, in bytes.
        max_depth: How deeply lists and mappings may be nested, the outer mapping included.

    Raises:
        TypeError: It is not a mapping with string keys.
        TooLarge: ``annotations_too_large`` or ``annotations_too_deep``.
        Refused: ``annotations_invalid``, something in it is no JSON.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"Annotations must be a mapping, not {type(value).__name__}.")
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"The keys of annotations must be str, not {type(key).__name__}.")
    clean = _clean(value, max_depth)
    size = len(orjson.dumps(thaw(clean)))
    if size > max_bytes:
        raise TooLarge(
            f"The annotations take {size:,} bytes, {max_bytes:,} are allowed. Shorten or remove some.",
            code="annotations_too_large",
        )
    return cast("Mapping[str, JSON]", clean)


def _clean(value: object, depth: int) -> JSON:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        try:
            value.isascii() or value.encode()
        except UnicodeEncodeError:
            raise Refused("An annotation holds text that is not Unicode.", code="annotations_invalid") from None
        return value
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise Refused("An annotation holds a number that is too large.", code="annotations_invalid")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Refused("An annotation holds a number that is not finite.", code="annotations_invalid")
        return value
    if isinstance(value, Mapping | list | tuple):
        if depth <= 0:
            raise TooLarge("The annotations are nested too deeply.", code="annotations_too_deep")
        if isinstance(value, Mapping):
            if not all(isinstance(key, str) for key in value):
                raise Refused("An annotation holds a key that is not text.", code="annotations_invalid")
            return MappingProxyType({cast("str", _clean(k, 0)): _clean(v, depth - 1) for k, v in value.items()})
        return tuple(_clean(item, depth - 1) for item in value)
    raise Refused(
        f"An annotation holds a {type(value).__name__}, which JSON does not know.", code="annotations_invalid"
    )


@frozen
class Offer:
    """What a client declares before it sends a byte.

    Attributes:
        id: Chosen by the client; MusicDB's web client takes the SHA-1 of the file.
        filename: Name of the source file; only its extension is used for paths.
        contenttype: ``video``, ``album``, ``artwork`` or a registered one.
        filesize: Size in bytes, at least 1; ``None`` when it comes later.
        sha1: 40 hex digits in any case; ``None`` when it comes later or never.
        mimetype: As the client says; advice only.
        annotations: What is known about the file already.
        wire: What the wire that brings it wants back as it was, such as a header; nobody else looks at it.

    Raises:
        TypeError: A value has the wrong type.
        Refused: A value is not allowed; ``code`` is ``invalid_id``, ``empty``, ``invalid_checksum``,
            ``invalid_contenttype`` or ``invalid_filename``.
    """

    id: str
    filename: str = field(kw_only=True)
    contenttype: str = field(kw_only=True)
    filesize: int | None = field(kw_only=True, default=None)
    sha1: str | None = field(kw_only=True, default=None)
    mimetype: str = field(kw_only=True, default="application/octet-stream")
    annotations: Annotations = field(kw_only=True, default=_EMPTY)
    wire: Mapping[str, JSON] = field(kw_only=True, default=_EMPTY)

    def __attrs_post_init__(self) -> None:
        check_id(self.id)
        for name in ("filename", "contenttype", "mimetype"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} must be a str, not {type(getattr(self, name)).__name__}.")
        check_size(self.filesize)
        object.__setattr__(self, "sha1", check_checksum(self.sha1))
        if not _CONTENTTYPE.fullmatch(self.contenttype):
            raise Refused(f"{self.contenttype[:40]!r} is no content type.", code="invalid_contenttype")
        for name in ("filename", "mimetype"):
            text = getattr(self, name)
            try:
                size = len(text.encode())
            except UnicodeEncodeError:
                raise Refused(f"The {name} is not Unicode text.", code=f"invalid_{name}") from None
            if size > 1024 or "\0" in text:
                raise Refused(f"The {name} is too long or holds a zero byte.", code=f"invalid_{name}")
        if not isinstance(self.annotations, Mapping):
            raise TypeError("annotations must be a mapping.")


def check_size(size: int | None, *, empty: bool = False) -> int | None:
    """Refuse a size that no file has.

    Args:
        size: In bytes; ``None`` when it is not known yet.
        empty: Whether 0 will do.

    Raises:
        TypeError: Not an ``int``.
        Refused: ``empty``, it is not above 0; ``invalid_filesize``, no disk holds it.
    """
    if size is None:
        return None
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"The file size must be an int, not {type(size).__name__}.")
    if size < 0 or (size == 0 and not empty):
        raise Refused("The file is empty. Choose a file with something in it.", code="empty")
    if size >= 2**63:
        raise TooLarge("The file size is beyond what a file system can hold.", code="invalid_filesize")
    return size


def check_checksum(checksum: str | None) -> str | None:
    """A SHA-1 in lower case.

    Raises:
        TypeError: Not a ``str``.
        Refused: ``invalid_checksum``.
    """
    if checksum is None:
        return None
    if not isinstance(checksum, str):
        raise TypeError(f"The checksum must be a str, not {type(checksum).__name__}.")
    lowered = checksum.lower()
    if not _CHECKSUM.fullmatch(lowered):
        raise Refused("The checksum must be a SHA-1 as 40 hexadecimal digits.", code="invalid_checksum")
    return lowered


# ── the task ──────────────────────────────────────────────────────────────────────────────────────────────────


@frozen
class Finding:
    """Something that was noticed about the content.

    Attributes:
        code: Stable, for programs.
        severity: ``reject`` (the bytes are unusable), ``hold`` (the user must choose), ``warn`` (something
            was dropped or changed).
        sentence: For people.
        options: The answers that a ``hold`` takes; empty when any will do.
    """

    code: str
    severity: Severity
    sentence: str
    options: tuple[str, ...] = ()


@frozen
class PlannedFile:
    """A file that integration is going to place.

    Attributes:
        root: Which tree, ``music`` or ``artwork``.
        path: Relative to the root, components separated by ``/``.
        source: Name of the bytes: empty for the uploaded file itself, else a derived file's name.
        size: In bytes, when known.
        sha256: When known.
        replace: Whether a file that has the name may be moved away: the user has decided.
        optional: Whether its name does not matter, and another one is found when somebody else has it by then.
    """

    root: str
    path: str
    source: str = ""
    size: int | None = None
    sha256: str | None = None
    replace: bool = False
    optional: bool = False


@frozen
class Plan:
    """What integration and import are going to do. On record before the disk is touched.

    Attributes:
        files: What integration places.
        artwork: What the artwork step places (paths known, bytes made later).
        directories: ``root/path`` of the directories that do not exist yet, outermost first; undo removes those
            that are empty again.
        entry: What the catalogue is told (names, release, facts), frozen at integration.
        problems: What stands in the way now; a plan with problems is for reading only.
    """

    files: tuple[PlannedFile, ...]
    artwork: tuple[PlannedFile, ...] = ()
    directories: tuple[str, ...] = ()
    entry: Mapping[str, JSON] = field(default=_EMPTY, converter=_frozen_mapping)
    problems: tuple[Finding, ...] = ()


@frozen
class PlacedFile:
    """A file of ours in a library tree.

    Attributes:
        root: Which tree.
        path: Relative to the root.
        size: In bytes.
        sha256: Of what was placed; undo refuses a file that has another one.
        replaced: SHA-256 of the file that had the name before and is kept for undo; ``None`` without one.
    """

    root: str
    path: str
    size: int
    sha256: str
    replaced: str | None = None


@frozen
class Step:
    """A slow step under way, or given back until later.

    Attributes:
        trigger: The trigger that ends it.
        token: Who holds it; empty when it was given back.
        attempt: 1 for the first.
        started: Seconds since the epoch.
        not_before: When it may be tried again, in seconds since the epoch.
    """

    trigger: Trigger
    token: str
    attempt: int
    started: float
    not_before: float = 0.0


@frozen
class Event:
    """One line of a task's history.

    Attributes:
        sequence: Rises by one with each line of a task; lines left out to save room leave gaps.
        time: Seconds since the epoch.
        trigger: What happened; ``create`` for the first line, ``recover`` for a migrated document.
        source: State before.
        dest: State after.
        reason: A sentence, or empty.
    """

    sequence: int
    time: float
    trigger: str
    source: str
    dest: str
    reason: str = ""


@frozen
class UploadTask:
    """An upload, from the first chunk to its removal. The keys of the specification keep their names.

    Attributes:
        id: Chosen by the client.
        filesize: In bytes; ``None`` while it is not declared.
        offset: Bytes on record. While in ``waitforchunk`` the byte store knows better than the document.
        contenttype: ``video``, ``album``, ``artwork`` or a registered one.
        mimetype: As declared.
        sourcefilename: As declared.
        sourcechecksum: SHA-1, 40 lower-case digits; ``None`` while unknown.
        destinationpath: Where the uploaded file is, relative to the uploads directory.
        videofile: The video in the music directory, relative to it, once integrated.
        artworkfile: The artwork in the artwork directory, relative to it, once integrated.
        state: See `State`.
        annotations: What users say about the upload.
        uid: Random and never used again; directories, journals and catalogue entries go by it.
        revision: Rises by one with each change of the document.
        generation: Which set of bytes; rises with each retry of a failed upload.
        sha256: Of the uploaded file, once pre-processed.
        message: The reason for the last failure, or ``None``.
        code: Stable code for `message`.
        findings: What pre-processing and planning noticed.
        content: Facts about the content (duration, codecs, tags …), from pre-processing.
        plan: The intent journal of integration.
        placed: Files of ours in the library trees.
        created_directories: ``root/path`` of directories made for them, outermost first.
        step: The slow step under way.
        wanted: ``integrate``, ``start_import`` or ``undo`` when asked for durably.
        import_wanted: Import follows the integration.
        created: Seconds since the epoch.
        updated: Seconds since the epoch, of the last change of the document.
        deadline: When the upload expires, seconds since the epoch; ``None`` while there is work to do, or something
            that it replaced is kept for it.
        history: What happened, oldest first; of a long history the middle is left out.
        wire: What the wire that brought the upload wants back as it was.
        foreign: Keys of an older document that nobody here knows, kept as they were.
    """

    id: str
    filesize: int | None
    offset: int
    contenttype: str
    mimetype: str
    sourcefilename: str
    sourcechecksum: str | None
    destinationpath: str
    state: State
    uid: str
    created: float
    updated: float
    videofile: str | None = None
    artworkfile: str | None = None
    annotations: Annotations = field(default=_EMPTY, converter=_frozen_mapping)
    revision: int = 1
    generation: int = 0
    sha256: str | None = None
    message: str | None = None
    code: str | None = None
    findings: tuple[Finding, ...] = ()
    content: Mapping[str, JSON] = field(default=_EMPTY, converter=_frozen_mapping)
    plan: Plan | None = None
    placed: tuple[PlacedFile, ...] = ()
    created_directories: tuple[str, ...] = ()
    step: Step | None = None
    wanted: Trigger | None = None
    import_wanted: bool = False
    deadline: float | None = None
    history: tuple[Event, ...] = ()
    wire: Mapping[str, JSON] = field(default=_EMPTY, converter=_frozen_mapping)
    foreign: Mapping[str, JSON] = field(default=_EMPTY, converter=_frozen_mapping)

    @property
    def key(self) -> str:
        """Name of the upload's bytes in the byte store."""
        return f"{self.uid}.{self.generation}"

    @property
    def extension(self) -> str:
        """Extension of the uploaded file, from its stored name; ``bin`` without one."""
        _, dot, extension = self.destinationpath.rpartition("/")[2].rpartition(".")
        return extension if dot and extension else "bin"

    @property
    def open_questions(self) -> tuple[Finding, ...]:
        """Holds that no annotation ``answers.<code>`` has answered yet."""
        return tuple(f for f in self.findings if f.severity == "hold" and not answered(f, self.annotations))

    @property
    def replaced(self) -> int:
        """How many files of the library are kept for its undo, and are deleted when it is removed."""
        return sum(file.replaced is not None for file in self.placed)

    def happened(self, trigger: str, source: str, dest: str, time: float, reason: str = "") -> tuple[Event, ...]:
        """The history with one more line.

        A line that repeats an internal event of the line before replaces it, and of a long history the
        internal lines in the middle go first, so that a document does not grow without bound.
        """
        history = self.history
        sequence = history[-1].sequence + 1 if history else 1
        line = Event(sequence, time, trigger, source, dest, reason)
        if source == dest and history and (history[-1].trigger, history[-1].dest) == (trigger, dest):
            history = history[:-1]
        if len(history) >= _HISTORY:
            middle = next((i for i, e in enumerate(history) if i and e.source == e.dest), 1)
            history = history[:middle] + history[middle + 1 :]
        return (*history, line)


def answered(question: Finding, annotations: Annotations) -> bool:
    """Whether an annotation ``answers.<code>`` answers a question, with one of its options if it has some."""
    key = f"answers.{question.code}"
    return key in annotations and (not question.options or annotations[key] in question.options)


_NAMES = tuple(a.name for a in fields(UploadTask))
_PLACES = {name: place for place, name in enumerate(_NAMES)}
_values = attrgetter(*_NAMES)


def evolve(task: UploadTask, **changes: object) -> UploadTask:
    """A copy with some attributes changed; `attrs.evolve` at half its time, which counts on the path of a chunk."""
    values = list(_values(task))
    try:
        for name, value in changes.items():
            values[_PLACES[name]] = value
    except KeyError as error:
        raise TypeError(f"A task has no attribute {error}.") from None
    return UploadTask(*values)


# ── documents ─────────────────────────────────────────────────────────────────────────────────────────────────


def _strict(kind: type) -> Callable[[Any, Any], Any]:
    def hook(value: Any, _: Any) -> Any:
        # cattrs would make 5 of "5" and True of "no".
        if type(value) is not kind:
            raise ValueError(f"expected {kind.__name__}, found {type(value).__name__}")
        return value

    return hook


def _number(value: Any, _: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"expected a number, found {type(value).__name__}")
    return float(value)


def _mapping(value: Any, _: Any) -> Any:
    if type(value) is not dict:
        raise ValueError(f"expected an object, found {type(value).__name__}")
    return value  # frozen by the attribute's converter


def _is_tuple(kind: object) -> bool:
    return getattr(kind, "__origin__", None) is tuple


def _tuple_of(kind: Any, converter: cattrs.Converter) -> Callable[[Any, Any], Any]:
    (item, _) = kind.__args__  # tuple[X, ...]

    def hook(value: Any, _: Any) -> Any:
        # cattrs would take a string, or the keys of an object, for a list.
        if type(value) is not list:
            raise ValueError(f"expected a list, found {type(value).__name__}")
        return tuple(converter.structure(one, item) for one in value)

    return hook


def _is_mapping(kind: object) -> bool:
    return getattr(kind, "__origin__", None) is Mapping


def _severity(value: Any, _: Any) -> Any:
    if value not in get_args(Severity):
        raise ValueError(f"no severity: {value!r}")
    return value


def _make_converter() -> cattrs.Converter:
    converter = make_converter(forbid_extra_keys=True, detailed_validation=False)
    kind: type
    for kind in (str, int, bool):
        converter.register_structure_hook(kind, _strict(kind))
    converter.register_structure_hook(float, _number)
    # Enums that are strings would pass through as plain strings.
    converter.register_structure_hook(State, lambda value, _: State(value))
    converter.register_structure_hook(Trigger, lambda value, _: Trigger(value))
    converter.register_unstructure_hook(State, lambda state: state.value)
    converter.register_unstructure_hook(Trigger, lambda trigger: trigger.value)
    converter.register_structure_hook_func(_is_mapping, _mapping)
    converter.register_structure_hook_factory(_is_tuple, lambda kind: _tuple_of(kind, converter))
    converter.register_unstructure_hook_func(_is_mapping, thaw)
    converter.register_structure_hook_func(lambda t: t == Severity, _severity)
    for cls in (Finding, PlannedFile, Plan, PlacedFile, Step, Event, UploadTask):
        converter.register_structure_hook(
            cls,
            make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=False),
        )
        converter.register_unstructure_hook(cls, make_dict_unstructure_fn(cls, converter))
    return converter


_converter = _make_converter()


def to_dict(task: UploadTask) -> dict[str, Any]:
    """The task as a new dictionary of plain JSON values, the specification's keys and all others."""
    return {"schema": SCHEMA, **_converter.unstructure(task)}


def dump(task: UploadTask) -> bytes:
    """The task's document: UTF-8 JSON."""
    return orjson.dumps(to_dict(task))


def load(raw: bytes | Mapping[str, Any], *, expected_id: str | None = None) -> UploadTask:
    """Read a document of any schema version.

    Args:
        raw: The bytes, or the object that they parse to.
        expected_id: The id that the file's name promises.

    Raises:
        InvalidDocument: It is torn, foreign, of a newer schema, or says something impossible.
    """
    try:
        document = orjson.loads(raw) if isinstance(raw, bytes) else dict(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidDocument(f"The document is no JSON: {error}.") from None
    if not isinstance(document, dict):
        raise InvalidDocument("The document is no JSON object.")
    if expected_id is not None and document.get("id") != expected_id:
        raise InvalidDocument(f"The document is about {str(document.get('id'))[:40]!r}, not {expected_id!r}.")
    schema = document.pop("schema", 0)
    if type(schema) is not int or not 0 <= schema <= SCHEMA:
        raise InvalidDocument(f"The document has schema {schema!r}, this version knows 0 to {SCHEMA}.")
    try:
        for migrate in _MIGRATIONS[schema:]:
            document = migrate(document)
        task = _converter.structure(document, UploadTask)
        _check_task(task)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, Refused, *_CATTRS) as error:
        raise InvalidDocument(f"The document does not describe an upload: {error!r}.") from error
    return task


_CATTRS = (cattrs.BaseValidationError, cattrs.ForbiddenExtraKeysError, cattrs.StructureHandlerNotFoundError)


def _check_task(task: UploadTask) -> None:
    check_id(task.id)
    check_size(task.filesize, empty=True)
    if not re.fullmatch(r"[0-9a-f]{32}", task.uid):
        raise ValueError("uid is not 32 hexadecimal digits")
    if task.sourcechecksum is not None and not _CHECKSUM.fullmatch(task.sourcechecksum):
        raise ValueError("sourcechecksum is no SHA-1")
    if not _CONTENTTYPE.fullmatch(task.contenttype):
        raise ValueError("contenttype is no word")
    if task.state not in STORED_STATES:
        raise ValueError(f"state {task.state} is never stored")
    if task.offset < 0 or (task.filesize is not None and task.offset > task.filesize):
        raise ValueError("offset is beyond the file")
    if task.generation < 0 or task.revision < 1:
        raise ValueError("generation or revision is impossible")
    if task.wanted not in (None, Trigger.INTEGRATE, Trigger.START_IMPORT, Trigger.UNDO):
        raise ValueError(f"nobody can want {task.wanted}")
    for path in (task.destinationpath, task.videofile, task.artworkfile, *_paths(task)):
        if path is not None:
            _check_relative(path)


def _paths(task: UploadTask) -> Iterable[str]:
    files: list[PlannedFile | PlacedFile] = list(task.placed)
    if task.plan is not None:
        files += [*task.plan.files, *task.plan.artwork]
        yield from task.plan.directories
        yield from (f.source for f in (*task.plan.files, *task.plan.artwork) if f.source)
    yield from (f.path for f in files)
    yield from task.created_directories


def _check_relative(path: str) -> None:
    """A stored path may only lead downwards: whoever can write a task file must not reach beyond our directories."""
    if path.startswith("/") or "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError(f"path {path[:60]!r} leads elsewhere")


def _from_musicdb(document: dict[str, Any]) -> dict[str, Any]:
    """Schema 0 (MusicDB 7) to 1.

    MusicDB keeps absolute paths. They are not believed: the uploaded file is looked for under the name that the
    scheme gives it, and paths into the library are not taken over, because nobody can undo what is not on record.
    """
    new: dict[str, Any] = {key: document.get(key) for key in SPECIFICATION_KEYS}
    foreign = {key: value for key, value in document.items() if key not in SPECIFICATION_KEYS}
    for key in ("destinationpath", "videofile", "artworkfile"):
        if new.pop(key) is not None:
            foreign[key] = document[key]
    checksum = check_checksum(new["sourcechecksum"] or None)
    new["sourcechecksum"] = checksum
    extension = extension_of(new["sourcefilename"] or "") or "bin"
    new["destinationpath"] = f"{new['contenttype']}-{checksum or 'pending'}.{extension}"
    if new["state"] == State.NOTEXISTING:
        raise ValueError("the state notexisting is never stored")
    annotations = new["annotations"] or {}
    new["annotations"] = thaw(check_annotations(annotations, max_bytes=1 << 20, max_depth=16))
    identity = f"musicdb7:{new['id']}:{checksum}".encode()
    new.update(
        uid=hashlib.sha256(identity).hexdigest()[:32],
        created=0.0,
        updated=0.0,
        mimetype=new["mimetype"] or "",
        foreign=foreign,
    )
    return new


def _from_1(document: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 to 2: questions have options, files may replace others, wires keep things. What is not said was not."""
    return document


_MIGRATIONS: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = (_from_musicdb, _from_1)
"""Migration ``i`` takes a document of schema ``i`` to ``i + 1``."""

assert len(_MIGRATIONS) == SCHEMA
assert set(SPECIFICATION_KEYS) <= set(_NAMES)
