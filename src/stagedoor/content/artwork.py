"""Covers of albums: ``Artist - Album.jpg`` in the artwork directory, and copies that fit into small squares."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import BinaryIO, Final

from ..errors import ContentRejected
from ..ports import ArtworkEntry, Illustrated, Library, MusicLibrary, Preprocessed, Source, Surroundings
from ..tasks import JSON, Finding, PlacedFile, Plan, PlannedFile, UploadTask, extension_of
from . import naming
from .annotations import text
from .covers import SIZES, cover_names, free_cover
from .decoding import Decoder
from .decoding.image import ImageFacts, make_cover, probe_image
from .naming import SCHEMES, Scheme
from .records import no_plan, recorded, string
from .sniffing import head_of, kind_of

__all__ = ["Artwork"]

_EXTENSIONS: Final[Mapping[str, frozenset[str]]] = {
    "jpg": frozenset({"jpg", "jpeg", "jpe", "jfif"}),
    "png": frozenset({"png", "apng"}),
    "webp": frozenset({"webp"}),
}
_NAMES: Final = {"jpg": "JPEG", "png": "PNG", "webp": "WebP"}
_SQUARE: Final = 0.02
"""A scan is seldom cut to the pixel: sides that differ by less than this share are equal to the eye."""


class Artwork:
    """The content type ``artwork``.

    Annotations: ``artistname`` and ``albumname`` make the path and name the album; where several albums have the name,
    ``albumid`` (text or number) says which one it is. Where id and names are at odds, the user is asked, and the
    annotation ``answers.albumid_differs`` is the id of the album that is meant.

    Args:
        decoder: Its child processes open the files.
        scheme: Names the files.
    """

    name = "artwork"
    has_artwork = False

    def __init__(self, decoder: Decoder, *, scheme: Scheme = SCHEMES["musicdb"]) -> None:
        self._decoder = decoder
        self._scheme = scheme

    # ── preprocess ────────────────────────────────────────────────────────────────────────────────────────────

    def preprocess(self, task: UploadTask, source: Source) -> Preprocessed:
        """Decide whether this is a whole picture.

        The facts: ``kind`` (the true type), ``width`` and ``height`` (pixels as shown), ``orientation`` (EXIF),
        ``frames`` and ``has_alpha``. Warnings: ``renamed_to_true_type``, ``small_picture``, ``not_square``,
        ``first_frame_only``.

        Raises:
            ContentRejected: ``empty``, ``not_an_image``, or as `probe_image`.
            StorageError: As `Decoder.run`.
            ConfigurationError: ``media_missing``.
        """
        _sniff(head_of(source))
        facts = probe_image(self._decoder, source)
        content: dict[str, JSON] = {
            "kind": facts.kind,
            "width": facts.width,
            "height": facts.height,
            "orientation": facts.orientation,
            "frames": facts.frames,
            "has_alpha": facts.has_alpha,
        }
        return Preprocessed(content=content, findings=tuple(_warnings(facts, extension_of(task.sourcefilename))))

    # ── plan ──────────────────────────────────────────────────────────────────────────────────────────────────

    def plan(self, task: UploadTask, around: Surroundings) -> Plan:
        """Name the files, or say what is missing. A cover that is there already stays, and the new one gets a number.

        Problems: ``annotation_missing``, ``unusable_name``, ``album_not_found``, ``album_ambiguous``,
        ``not_preprocessed``; question: ``albumid_differs``; warning: ``albumid_unknown``.
        """
        problems: list[Finding] = []
        artist = text(task, "artistname", problems)
        album = text(task, "albumname", problems)
        albumid = _albumid(task.annotations.get("albumid"))
        if "kind" not in task.content:
            problems.append(_NOT_YET)
        if artist is not None and album is not None:
            answer = _albumid(task.annotations.get(f"answers.{_QUESTION}"))
            albumid = _settle_album(around.library, artist, album, albumid, answer, problems)
        if artist is None or album is None or any(problem.severity != "warn" for problem in problems):
            return Plan(files=(), problems=tuple(problems))
        fields = {"albumartist": artist, "album": album, "year": naming.year(task.annotations.get("release"))}
        try:
            stem = free_cover(around, self._scheme.cover.path(fields))
        except naming.FieldRejected as error:  # a scheme of one's own may want the year
            return Plan(files=(), problems=(Finding(error.code, "reject", error.sentence),))
        return Plan(
            files=tuple(PlannedFile("artwork", path, source=word) for word, path in cover_names(stem).items()),
            entry={"artist": artist, "album": album, "albumid": albumid},
            problems=tuple(problems),
        )

    # ── integrate ─────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def produce(
        self, task: UploadTask, source: Source, files: Sequence[PlannedFile]
    ) -> Iterator[Iterable[tuple[PlannedFile, BinaryIO]]]:
        """Make the cover and its copies.

        Raises:
            ContentRejected: ``no_plan``, or as `make_cover`.
            StorageError: As `Decoder.run`.
            ConfigurationError: ``media_missing``.
        """
        pictures = make_cover(self._decoder, source, SIZES)
        made = {"cover": pictures.full, **{str(side): data for side, data in pictures.small.items()}}
        if not made.keys() >= {file.source for file in files}:
            raise no_plan()
        yield ((file, io.BytesIO(made[file.source])) for file in files)

    # ── import ────────────────────────────────────────────────────────────────────────────────────────────────

    def import_(self, task: UploadTask, library: Library) -> None:
        """Tell the catalogue.

        Raises:
            ContentRejected: ``no_plan``; or the catalogue's.
        """
        entry = recorded(task)
        placed = _placed(task)
        albumid = entry.get("albumid")
        library.put(
            task.uid,
            ArtworkEntry(
                path=placed.path,
                artist=string(entry, "artist"),
                album=string(entry, "album"),
                albumid=albumid if isinstance(albumid, str) else None,
                sha256=placed.sha256,
            ),
        )

    def illustrate(self, task: UploadTask, source: Source) -> Illustrated:
        """Never called: an artwork needs none.

        Raises:
            ContentRejected: ``no_artwork``.
        """
        raise ContentRejected("A cover is a picture already, and gets no pictures of its own.", code="no_artwork")


# ── preprocess ────────────────────────────────────────────────────────────────────────────────────────────────


def _sniff(head: bytes) -> None:
    """Refuse what cannot be a picture, without a decoder."""
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return
    kind = kind_of(head)
    raise ContentRejected(
        f"The file is no JPEG, PNG or WebP picture{f', but {kind}' if kind else ''}. Convert it to one of these.",
        code="not_an_image",
    )


def _warnings(facts: ImageFacts, named: str | None) -> Iterator[Finding]:
    if named is not None and named not in _EXTENSIONS[facts.kind]:
        yield Finding(
            "renamed_to_true_type",
            "warn",
            f"The file is named .{named}, but it is a {_NAMES[facts.kind]} picture. It will be filed as .jpg.",
        )
    if max(facts.width, facts.height) < max(SIZES):
        yield Finding(
            "small_picture",
            "warn",
            f"The picture has only {facts.width}×{facts.height} pixels. It is never enlarged; "
            f"with {max(SIZES)}×{max(SIZES)} or more it would look sharp everywhere.",
        )
    if abs(facts.width - facts.height) > _SQUARE * max(facts.width, facts.height):
        yield Finding(
            "not_square",
            "warn",
            f"The picture is not square ({facts.width}×{facts.height}). Nothing is cut off; players show it with "
            "bars, or cut it themselves.",
        )
    if facts.frames > 1:
        yield Finding("first_frame_only", "warn", "The picture moves. Only its first frame becomes the cover.")


# ── plan ──────────────────────────────────────────────────────────────────────────────────────────────────────

_NOT_YET: Final = Finding("not_preprocessed", "reject", "The content has not been examined yet. Wait until it is.")


def _albumid(value: JSON) -> str | None:
    """The id of an album as text; clients send it as text or as a number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value.strip() or None if isinstance(value, str) else None


def _settle_album(
    library: Library, artist: str, album: str, albumid: str | None, answer: str | None, problems: list[Finding]
) -> str | None:
    """The id of the album that is meant, where names alone do not say it; only of libraries that can tell.

    Args:
        library: The catalogue.
        artist: Of the album.
        album: Its title.
        albumid: As annotated. An id goes stale with its catalogue, and then it may be another album's.
        answer: The id that the user chose when asked.
        problems: Gets what is to be said.
    """
    if not isinstance(library, MusicLibrary):
        return albumid
    named = library.find_albums(artist, album, None)
    if albumid is not None and albumid not in named:
        if albumid in library.find_albums(artist, album, albumid):
            options = (albumid, *named[:_MOST_OPTIONS])
            if answer in options:
                return answer
            others = f"theirs is {' or '.join(options[1:])}" if named else "the catalogue has none of that name"
            problems.append(
                Finding(
                    _QUESTION,
                    "hold",
                    f"The annotation “albumid” says {albumid[:40]}, but that is not “{album[:100]}” by "
                    f"“{artist[:100]}”: {others}. Of which one is it the cover?",
                    options=options,
                )
            )
            return albumid
        problems.append(
            Finding(
                "albumid_unknown",
                "warn",
                f"The catalogue has no album {albumid[:40]}, as the annotation “albumid” says; the names decide.",
            )
        )
        albumid = None
    if not named:
        problems.append(
            Finding(
                "album_not_found",
                "reject",
                f"The catalogue has no album “{album[:100]}” by “{artist[:100]}”. Correct the annotations “artistname” "
                "and “albumname”, or import the album first; then try again.",
            )
        )
    elif len(named) > 1 and albumid is None:
        problems.append(
            Finding(
                "album_ambiguous",
                "reject",
                f"The catalogue has {len(named)} albums “{album[:100]}” by “{artist[:100]}”. Name one with the "
                f"annotation “albumid” ({', '.join(named[:_MOST_OPTIONS])}), then try again.",
            )
        )
    return albumid


_QUESTION: Final = "albumid_differs"
_MOST_OPTIONS: Final = 10


# ── what integration put on record ────────────────────────────────────────────────────────────────────────────


def _placed(task: UploadTask) -> PlacedFile:
    """The cover itself; the copies are found by its name."""
    covers = {(file.root, file.path) for file in task.plan.files if file.source == "cover"} if task.plan else set()
    for file in task.placed:
        if (file.root, file.path) in covers:
            return file
    raise no_plan()
