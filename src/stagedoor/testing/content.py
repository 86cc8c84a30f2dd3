"""A content type without media: for tests of everything around content types.

It is a real one: it reads the bytes, names files, tells the library and makes artwork. What a file's bytes say
decides what happens to it, so that a test (or a property) can ask for any outcome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import field, frozen

from ..errors import ContentRejected, StorageError
from ..library.memory import NullLibrary
from ..ports import Illustrated, Library, Preprocessed, Source, Surroundings, VideoEntry
from ..tasks import JSON, Finding, Plan, PlannedFile, UploadTask

__all__ = ["Around", "PlainContent"]


@frozen
class Around:
    """`stagedoor.ports.Surroundings` made of names: for tests of `ContentType.plan`.

    Attributes:
        library: The music database.
        paths: Files that are there, by tree.
    """

    library: Library = field(factory=NullLibrary)
    paths: Mapping[str, Sequence[str]] = field(factory=dict)

    def exists(self, root: str, path: str) -> bool:
        """See `Surroundings.exists`."""
        return any(f"{there}/".startswith(f"{path}/") for there in self.paths.get(root, ()))

    def names(self, root: str, directory: str = "") -> Sequence[str]:
        """See `Surroundings.names`."""
        inside = f"{directory}/" if directory else ""
        paths = self.paths.get(root, ())
        return sorted({path[len(inside) :].partition("/")[0] for path in paths if path.startswith(inside)})


class PlainContent:
    """Content whose first bytes are its script.

    ``bad`` is rejected, ``ask`` needs an answer to ``which``, ``noart`` cannot be illustrated, ``noimport`` is not
    taken by the catalogue, ``shaky`` fails in each step once with a `StorageError` for each of its attempts in
    ``failures``; everything else is fine. Needs the annotations ``artistname`` and ``name``.

    Args:
        name: The content type's name.
        has_artwork: Whether there is an artwork step.
        failures: How often each step of a ``shaky`` upload fails, by step.
    """

    def __init__(
        self, name: str = "video", *, has_artwork: bool = True, failures: Mapping[str, int] | None = None
    ) -> None:
        self._name = name
        self._has_artwork = has_artwork
        self._failures = dict(failures or {})

    @property
    def name(self) -> str:
        """See `ContentType.name`."""
        return self._name

    @property
    def has_artwork(self) -> bool:
        """See `ContentType.has_artwork`."""
        return self._has_artwork

    def preprocess(self, task: UploadTask, source: Source) -> Preprocessed:
        """See `ContentType.preprocess`."""
        with source() as file:
            script = file.read(16)
        self._shake("preprocess", script)
        if script.startswith(b"bad"):
            raise ContentRejected("This content is bad.", code="bad")
        findings = []
        if script.startswith(b"ask"):
            findings.append(Finding("which", "hold", "Which one is it?"))
        return Preprocessed(content={"script": script.decode("ascii", "replace")}, findings=findings)

    def plan(self, task: UploadTask, around: Surroundings) -> Plan:
        """See `ContentType.plan`."""
        names: dict[str, str] = {}
        for key in ("artistname", "name"):
            value = task.annotations.get(key)
            try:
                if not isinstance(value, str):
                    raise ContentRejected(f"The annotation {key} is missing.", code="annotation_missing")
                if not value.isalnum():
                    raise ContentRejected(f"The {key} {value[:40]!r} is no name for a file.", code="unusable_name")
                names[key] = value
            except ContentRejected as error:
                return Plan((), problems=(Finding(error.code, "reject", error.sentence),))
        artist, name = names["artistname"], names["name"]
        entry: dict[str, JSON] = {"artist": artist, "name": name}
        return Plan(
            files=(PlannedFile("music", f"{artist}/{name}.{task.extension}", size=task.filesize, sha256=task.sha256),),
            artwork=(PlannedFile("artwork", f"{artist}/{name}/frame.jpg"),) if self._has_artwork else (),
            entry=entry,
        )

    def import_(self, task: UploadTask, library: Library) -> None:
        """See `ContentType.import_`."""
        script = str(task.content.get("script", "")).encode()
        self._shake("import_", script)
        if script.startswith(b"noimport"):
            raise ContentRejected("The catalogue does not want this.", code="unwanted")
        plan = task.plan
        if plan is None or not task.placed:
            raise ContentRejected("Nothing is on record about the files.", code="no_plan")
        file = task.placed[0]
        library.put(
            task.uid,
            VideoEntry(
                path=file.path, artist=str(plan.entry["artist"]), name=str(plan.entry["name"]), release="", origin="",
                size=file.size, sha1=task.sourcechecksum or "", sha256=file.sha256, duration=1.0, width=1, height=1,
                codec="none",
            ),
        )  # fmt: skip

    def illustrate(self, task: UploadTask, source: Source) -> Illustrated:
        """See `ContentType.illustrate`."""
        with source() as file:
            data = file.read(16)
        self._shake("illustrate", data)
        if data.startswith(b"noart"):
            raise ContentRejected("There is nothing to see.", code="no_picture")
        assert task.plan is not None
        path = task.plan.artwork[0].path
        return Illustrated(
            files={path: b"JPEG" + data}, directory=path.rpartition("/")[0], thumbnail="frame.jpg", preview="frame.jpg"
        )

    def _shake(self, step: str, script: bytes) -> None:
        if script.startswith(b"shaky") and self._failures.get(step, 0) > 0:
            self._failures[step] -= 1
            raise StorageError(f"The {step} step shakes.")
