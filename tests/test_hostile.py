"""Every line of what strangers send, through the whole of a real server.

Each case is a file of the kinds that were tried on media programs: its bytes are made here, arrive in chunks, and are
looked at by the real content types in real decoder processes. It ends in one of three outcomes. *reject*: the upload is
``invalidcontent``. *hold*: it stays ``preprocessed`` with a question, and an answer lets it go on. *warn*: it is taken,
something was dropped or changed, and that is said. Whatever it was, nothing outside of the uploads directory is touched
before somebody asks for it, the upload can be removed, and the server goes on.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import resource
import tarfile
import time
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, Literal, cast

import pytest
from attrs import frozen

from stagedoor.adapters.inprocess import InlineBus
from stagedoor.content import builtin
from stagedoor.engine import Uploads
from stagedoor.errors import Refused, TaskNotFound, UploadError
from stagedoor.library.catalogue import Catalogue
from stagedoor.lifecycle import State
from stagedoor.ports import ContentType
from stagedoor.settings import Settings
from stagedoor.tasks import JSON, Offer, UploadTask
from stagedoor.testing import archives, media, pictures, sounds
from stagedoor.testing.archives import Entry, entry, zip_of, zips
from stagedoor.testing.sounds import Kind, id3_picture, song, with_id3
from stagedoor.worker import Worker

CHUNK = 1 << 20
NAMES: Mapping[str, Mapping[str, JSON]] = {
    "video": {"artistname": "Alpha", "name": "Beta", "release": "2020"},
    "album": {"artistname": "Alpha", "albumname": "Beta", "release": "2020"},
    "artwork": {"artistname": "Alpha", "albumname": "Beta"},
}


# ── the server ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[ContentType]]:
    """The built-in content types and their decoders."""
    made, close = builtin(scratch=tmp_path_factory.mktemp("scratch"), others=False)
    yield made
    close()


class Server:
    """Uploads in a directory, worked on when a test says so."""

    def __init__(self, root: Path, contents: Sequence[ContentType]) -> None:
        self.root = root
        self.canary = root / "canary.mp4"
        self.canary.write_bytes(media.video(seconds=1, container="mp4", seed=99))
        self.uploads = Uploads.open(
            root / "uploads",
            music=root / "music",
            artwork=root / "artwork",
            contents=contents,
            durability="process",
            bus=InlineBus(),
            settings=Settings(free_floor=0),
        )
        self.catalogue = self.uploads.ports.library
        assert isinstance(self.catalogue, Catalogue)
        self.catalogue.add_album("Alpha", "Beta", "2020")
        self.worker = Worker(self.uploads)

    def send(self, data: bytes | Path, contenttype: str, filename: str, uploadid: str = "one") -> UploadTask:
        """Offer a file, send it in chunks, and let it be looked at."""
        with io.BytesIO(data) if isinstance(data, bytes) else data.open("rb") as file:
            digest = hashlib.sha1()
            while chunk := file.read(CHUNK):  # file_digest() would copy what is in a BytesIO: growth
                digest.update(chunk)
            sha1, size = digest.hexdigest(), file.tell()
            file.seek(0)
            task = self.uploads.initiate(
                Offer(uploadid, filename=filename, contenttype=contenttype, filesize=size, sha1=sha1)
            )
            while chunk := file.read(CHUNK):
                task = self.uploads.receive(uploadid, offset=task.offset, data=chunk)
        assert task.state is State.UPLOADCOMPLETE
        self.worker.drain(100)
        return self.uploads.get(uploadid)

    def import_(self, annotations: Mapping[str, JSON], uploadid: str = "one") -> UploadTask:
        """Name it, and have it imported."""
        self.uploads.annotate(uploadid, annotations)
        self.uploads.request(uploadid, trigger_import=True)
        self.worker.drain(100)
        return self.uploads.get(uploadid)

    def outside(self) -> Mapping[str, object]:
        """Everything that is not the uploads directory."""
        found: dict[str, object] = {}
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            if not name.startswith("uploads"):
                status = path.lstat()
                found[name] = (status.st_mode, status.st_nlink, status.st_mtime_ns, status.st_size)
        return found

    def remove(self, uploadid: str = "one") -> None:
        """Nothing is left of it in the uploads directory."""
        self.uploads.remove(uploadid)
        self.worker.drain(100)
        with pytest.raises(TaskNotFound):
            self.uploads.get(uploadid)
        inside = [path for part in ("data", "tasks") for path in (self.root / "uploads" / part).iterdir()]
        assert inside == []

    def files(self) -> set[str]:
        """Names of the files that are not in the uploads directory."""
        return {name for name in self.outside() if not (self.root / name).is_dir()}

    def goes_on(self, contenttype: str) -> None:
        """A sound upload gets to the end."""
        make, filename = GOOD[contenttype]
        data = make()
        task = self.send(data, contenttype, filename, "good")
        assert (task.state, task.open_questions) == (State.PREPROCESSED, ())
        task = self.import_(NAMES[contenttype], "good")
        assert (task.state, task.message) == (State.IMPORTCOMPLETE, None)
        if contenttype != "artwork":  # which is made anew
            assert (self.root / "music" / task.placed[0].path).read_bytes() == data


GOOD: Mapping[str, tuple[Callable[[], bytes], str]] = {
    "video": (lambda: media.video(seconds=0.5, size=(64, 36)), "good.mp4"),
    "album": (lambda: song("mp3", 1, title="Good"), "good.mp3"),
    "artwork": (lambda: pictures.picture("JPEG", (64, 64)), "good.jpg"),
}


@pytest.fixture
def server(tmp_path: Path, contents: Sequence[ContentType]) -> Iterator[Server]:
    made = Server(tmp_path, contents)
    yield made
    made.uploads.close()


# ── what is said to people ────────────────────────────────────────────────────────────────────────────────────

DO: Final = re.compile(
    r"\b(add|answer|change|choose|convert|correct|divide|give|import|leave|make|name|pack|remove|say|send|shorten|take"
    r"|try|undo|upload)\b",
    re.IGNORECASE,
)
"""What a sentence can ask people to do."""
JARGON: Final = re.compile(r"Traceback|Exception|Errno|\bNone\b|\bnull\b|0x[0-9a-f]|\bself\b|<|\{|\}|__|/proc/|\.py\b")


def for_people(sentence: str, *, does: bool) -> None:
    """Whole sentences in plain words that say what to do, if there is something to be done."""
    assert re.search(r"[.?]$", sentence), sentence
    assert not JARGON.search(sentence), sentence
    assert all(c.isprintable() for c in sentence), ascii(sentence)
    assert not does or DO.search(sentence), f"nothing says what to do: {sentence}"
    assert len(sentence) < 2000


# ── memory and processor time ─────────────────────────────────────────────────────────────────────────────────


def _peak() -> tuple[int, int]:
    """The most memory that this process ever had in use, since it was reset, and what it has of files now, in bytes.

    Pages of programs and libraries go and come back as the kernel likes; they are nothing that anybody took.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {name: int(value.split()[0]) << 10 for name, _, value in (line.partition(":") for line in lines)
             if name in ("VmHWM", "RssFile")}  # fmt: skip
    return found["VmHWM"], found["RssFile"]


def _children() -> float:
    """Seconds of processor time of the children of this process, those that ended and those that are there."""
    gone = resource.getrusage(resource.RUSAGE_CHILDREN)
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended: its time is missing, but only until somebody asks for its end
            fields = path.read_bytes().rpartition(b")")[2].split()
            if int(fields[1]) == os.getpid():
                ticks += sum(map(int, fields[11:15]))
    return gone.ru_utime + gone.ru_stime + ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def flat(memory: int, seconds: float, decoding: float) -> Iterator[None]:
    """This process takes no more memory (bytes) and processor time (seconds) than that, nor do the decoders.

    Args:
        memory: Of this process.
        seconds: Of this process.
        decoding: Of its children.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as error:
        pytest.skip(f"the peak of memory cannot be reset here: {error}")
    (peak, files), start, before = _peak(), time.process_time(), _children()
    yield
    own, others = time.process_time() - start, _children() - before
    assert own < seconds
    assert others < decoding
    most, mapped = _peak()
    assert most - peak - max(0, mapped - files) < memory


# ── the table ─────────────────────────────────────────────────────────────────────────────────────────────────

LINES: Final[Mapping[str, str]] = {
    "text": "ffconcat, HLS or SDP named .mp4",
    "tag": "an ID3 tag compressed 340 KB → 300 MB; 200 MB of cover art",
    "pixels": "17 KB image of 144 Mpx",
    "formats": "odd image formats",
    "cut jpeg": "truncated JPEG",
    "cut mp4": "truncated mp4/m4a",
    "cut mp3": "truncated mp3, webm",
    "cut ogg": "truncated ogg, opus, wav",
    "attached": "cover art shown as a video stream",
    "misnamed": "webm named mp4",
    "frame": "huge frame size",
    "behind": "JPEG with a zip behind, comments, EXIF position",
    "overlap": "overlapping zip (19 KB says 2 GB)",
    "names": "names in archives and tags",
    "artists": "artists that differ by NFC/NFD or case",
}
"""The lines of the table of hostile input."""

Outcome = Literal["reject", "hold", "warn", "fine"]


@frozen
class Case:
    """A file and what becomes of it.

    Attributes:
        line: Of the table.
        what: It is, in a few words.
        contenttype: As what it is uploaded.
        name: As which file.
        data: Makes it; a large one is a file.
        outcome: What becomes of it.
        code: Of the error, the question or the warning; empty for a file that is as it should be.
        missing: What must not be found in pictures that are made of it.
        memory: Most that this process may take, in bytes.
        seconds: Most processor time of this process.
        decoding: Most processor time of the decoders; none takes them a quarter of a second.
    """

    line: str
    what: str
    contenttype: str
    name: str
    data: Callable[[], bytes] | Callable[[Path], None]
    outcome: Outcome
    code: str = ""
    missing: bytes = b""
    memory: int = 12 << 20
    seconds: float = 2.0
    decoding: float = 2.0
    large: bool = False

    def __str__(self) -> str:
        return f"{self.line}: {self.what} as {self.contenttype}"


def songs(**files: bytes) -> bytes:
    """An album of one sound song and of other files; ``__`` is a dot in a name."""
    sound = {"01 sound.mp3": song("mp3", 1, title="Sound", artist="Alpha", album="Beta", date="2020")}
    return zips({**sound, **{name.replace("__", "."): data for name, data in files.items()}})


def with_picture(make: Callable[[], bytes]) -> bytes:
    return with_id3(song(), [id3_picture(make())])


def beside(name: str, make: Callable[[], bytes]) -> bytes:
    return songs(**{name: make()})


def video_with_cover(path: Path, size: int = 200 << 20) -> None:
    """A video with a cover of so many bytes, nearly all of them a hole in the file."""
    data = bytearray(media.video(seconds=1))
    at = data.index(b"moov") - 4
    length = int.from_bytes(data[at : at + 4], "big")
    assert at + length == len(data), "the index is at the end, so that nothing moves"

    def box(name: bytes, content: bytes) -> bytes:
        return (8 + len(content) + size).to_bytes(4, "big") + name + content

    head = box(b"data", bytes((0, 0, 0, 13, 0, 0, 0, 0)) + b"\xff\xd8\xff\xe0")
    handler = bytes((0, 0, 0, 33)) + b"hdlr" + bytes(8) + b"mdirappl" + bytes(9)
    udta = box(b"udta", box(b"meta", bytes(4) + handler + box(b"ilst", box(b"covr", head))))
    data[at : at + 4] = (length + len(udta) + size).to_bytes(4, "big")
    path.write_bytes(data + udta)
    os.truncate(path, len(data) + len(udta) + size)


CANARY = "../canary.mp4"
TEXTS: Mapping[str, Callable[[], bytes]] = {
    "ffconcat": partial(media.ffconcat, CANARY),
    "HLS": partial(media.hls, CANARY),
    "SDP": media.sdp,
    "M3U": partial(sounds.playlist, CANARY),
    "SVG": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
}


def of_texts() -> Iterator[Case]:
    for what, made in TEXTS.items():
        yield Case("text", what, "video", "clip.mp4", made, "reject", "not_a_video")
        yield Case("text", what, "album", "song.mp3", made, "reject", "not_audio")
        yield Case("text", what, "artwork", "cover.jpg", made, "reject", "not_an_image")
        yield Case("text", f"{what} beside a song", "album", "a.zip", partial(beside, "b__mp3", made), "hold",
                   "broken_tracks")  # fmt: skip
    yield Case("text", "ffconcat and nothing else in a zip", "album", "a.zip",
               lambda: zips({"b.mp3": media.ffconcat(CANARY)}), "reject", "no_songs")  # fmt: skip
    yield Case("text", "ffconcat for a cover", "album", "a.zip", partial(beside, "cover__jpg", media.ffconcat),
               "warn", "cover_unusable")  # fmt: skip


def of_tags() -> Iterator[Case]:
    text, picture = sounds.compressed_tag, partial(sounds.compressed_tag, name="APIC")
    yield Case("tag", "300 MB of text, packed", "album", "song.mp3", text, "reject", "tags_too_large", memory=6 << 20)
    yield Case("tag", "300 MB of text, packed", "video", "clip.mp4", text, "reject", "not_a_video", memory=6 << 20)
    yield Case("tag", "300 MB of cover, packed", "album", "song.mp3", picture, "warn", "cover_too_large",
               memory=6 << 20)  # fmt: skip
    yield Case("tag", "300 MB of text, packed, in a zip", "album", "a.zip", partial(beside, "b__mp3", text), "hold",
               "broken_tracks", memory=6 << 20)  # fmt: skip
    yield Case("tag", "17 MB of private data", "album", "song.mp3", sounds.large_tag, "reject", "tags_too_large")
    for kind in ("mp3", "m4a", "flac"):
        yield Case("tag", f"200 MB of cover in {kind}", "album", f"song.{kind}", partial(sounds.huge_cover, kind=kind),
                   "warn", "cover_too_large", memory=6 << 20, seconds=6, large=True)  # fmt: skip
    yield Case("tag", "200 MB of cover in mp4", "video", "clip.mp4", video_with_cover, "fine", memory=6 << 20,
               seconds=6, large=True)  # fmt: skip


def of_pictures() -> Iterator[Case]:
    def covers(line: str, what: str, make: Callable[[], bytes], code: str = "cover_unusable") -> Iterator[Case]:
        """In albums a cover that cannot be used is left out."""
        inside = partial(beside, "cover__jpg", make)
        yield Case(line, f"{what} in a zip", "album", "a.zip", inside, "warn", "cover_unusable")
        yield Case(line, f"{what} in a song", "album", "a.mp3", partial(with_picture, make), "warn", code)

    for form in ("PNG", "WEBP"):
        huge = partial(pictures.huge_picture, form=form)
        yield Case("pixels", f"144 Mpx of {form}", "artwork", "a.png", huge, "reject", "picture_too_large")
    yield from covers("pixels", "144 Mpx", pictures.huge_picture)
    for form in pictures.ODD_FORMATS:
        yield Case("formats", form, "artwork", "cover.jpg", partial(pictures.odd_format, form), "reject",
                   "not_an_image")  # fmt: skip
    yield from covers("formats", "EPS", partial(pictures.odd_format, "EPS"), "no_cover")
    for form in ("JPEG", "PNG", "WEBP"):
        cut = partial(lambda form: media.cut(pictures.picture(form), 0.6), form)
        yield Case("cut jpeg", f"60 % of {form}", "artwork", f"cover.{form.lower()}", cut, "reject", "truncated")
    yield from covers("cut jpeg", "60 % of JPEG", lambda: media.cut(pictures.picture(), 0.6))
    talks = {
        "JPEG": lambda: pictures.with_archive(pictures.talkative_picture()),
        "PNG": lambda: pictures.with_archive(pictures.talkative_picture("PNG")),
        "WEBP": lambda: pictures.with_archive(pictures.talkative_picture("WEBP")),
    }
    for form, make in talks.items():
        yield Case("behind", f"{form} with a zip, comments and a position", "artwork", f"cover.{form.lower()}", make,
                   "fine", missing=pictures.SECRET)  # fmt: skip
    yield Case("behind", "such a JPEG in a zip", "album", "a.zip", partial(beside, "cover__jpg", talks["JPEG"]),
               "fine", missing=pictures.SECRET)  # fmt: skip
    yield Case("behind", "such a JPEG in a song", "album", "song.mp3",
               partial(with_picture, talks["JPEG"]), "fine", missing=pictures.SECRET)  # fmt: skip
    yield Case("behind", "a telephone's JPEG", "artwork", "cover.jpg", partial(pictures.turned_picture, 6), "fine")


def of_cut_files() -> Iterator[Case]:
    for what, line, name, make in (
        ("70 % of mp4, index in front", "cut mp4", "clip.mp4", media.truncated_mp4),
        ("70 % of mp4, index behind", "cut mp4", "clip.mp4", lambda: media.cut(media.video(), 0.7)),
        ("70 % of m4v", "cut mp4", "clip.m4v", lambda: media.cut(media.video(container="m4v"), 0.7)),
        ("70 % of webm", "cut mp3", "clip.webm", media.truncated_webm),
        ("70 % of mkv", "cut mp3", "clip.mkv", lambda: media.cut(media.video(container="mkv"), 0.7)),
        ("webm that says 180 %", "cut mp3", "clip.webm", media.overstated_webm),
    ):
        yield Case(line, what, "video", name, make, "reject", "truncated")
    lines: Sequence[tuple[str, Sequence[Kind]]] = (
        ("cut mp4", ("alac", "m4a")),
        ("cut mp3", ("mp3",)),
        ("cut ogg", ("ogg", "opus", "wav", "aiff", "flac")),
    )
    for line, kinds in lines:
        for kind in kinds:
            make = partial(sounds.truncated, kind)
            yield Case(line, f"60 % of {kind}", "album", f"song.{kind}", make, "reject", "truncated")
        yield Case(line, f"60 % of {kind} in a zip", "album", "a.zip", partial(beside, f"b__{kind}", make), "hold",
                   "broken_tracks")  # fmt: skip
    yield Case("cut mp3", "mp3 that says 173 %", "album", "song.mp3", sounds.overstated_mp3, "reject", "truncated")
    for name, make in (("song.ogg", sounds.unfinished_ogg), ("song.opus", partial(sounds.unfinished_ogg, "opus"))):
        yield Case("cut ogg", f"{name} without its last page", "album", name, make, "reject", "truncated")


def of_other_kinds() -> Iterator[Case]:
    covered = partial(song, "m4a", cover=media.still_cover())
    yield Case(
        "attached", "sound and a cover in mp4", "video", "clip.mp4", media.audio_with_cover, "reject", "no_video"
    )
    yield Case("attached", "m4a with a cover", "video", "clip.m4v", covered, "reject", "no_video")
    yield Case("attached", "m4a with a cover", "album", "song.m4a", covered, "fine")
    yield Case("attached", "mp4", "album", "song.m4a", media.video, "reject", "is_video")
    found: Sequence[tuple[str, str, Callable[[], bytes], Outcome, str]] = (
        ("webm named mp4", "clip.mp4", lambda: media.video(container="webm"), "warn", "renamed_to_true_type"),
        ("mp4 named mkv", "clip.mkv", media.video, "warn", "renamed_to_true_type"),
        ("mov named mp4", "clip.mp4", lambda: media.video(container="mov"), "reject", "unsupported_format"),
        ("JPEG named mp4", "clip.mp4", pictures.picture, "reject", "not_a_video"),
        ("mp3 named mp4", "clip.mp4", song, "reject", "not_a_video"),
        ("nothing but noise", "clip.mp4", media.noise, "reject", "not_a_video"),
    )
    for what, name, make, outcome, code in found:
        yield Case("misnamed", what, "video", name, make, outcome, code)
    found = (
        ("flac named mp3", "song.mp3", lambda: song("flac"), "warn", "renamed_to_true_type"),
        ("ogg named mp3 in a zip", "a.zip", lambda: songs(b__mp3=song("ogg", title="B", album="Beta")), "warn",
         "renamed_to_true_type"),
        ("a zip named mp3", "song.mp3", songs, "fine", ""),
        ("a program named mp3", "song.mp3", lambda: b"MZ" + media.noise(), "reject", "not_audio"),
        ("a picture", "song.mp3", pictures.picture, "reject", "not_audio"),
        ("notes", "song.mp3", sounds.midi, "reject", "not_audio"),
    )  # fmt: skip
    for what, name, make, outcome, code in found:
        yield Case("misnamed", what, "album", name, make, outcome, code)
    yield Case("misnamed", "PNG named jpg", "artwork", "a.jpg", partial(pictures.picture, "PNG"), "warn",
               "renamed_to_true_type")  # fmt: skip
    yield Case("misnamed", "mp4 named jpg", "artwork", "a.jpg", media.video, "reject", "not_an_image")
    yield Case("frame", "268 Mpx, honest", "video", "clip.webm", media.huge_frame, "reject", "frame_too_large")
    yield Case("frame", "268 Mpx, in the frames alone", "video", "clip.webm", partial(media.huge_frame, honest=False),
               "reject", "undecodable")  # fmt: skip


def of_archives() -> Iterator[Case]:
    sound = {"a.mp3": song("mp3", 1)}
    rejected: tuple[tuple[str, Callable[[], bytes], str], ...] = (
        ("overlapping zip", archives.overlapping_zip, "archive_overlap"),
        ("overlapping zip with right checksums", archives.quoting_zip, "archive_overlap"),
        ("65 MB of zeros in a zip", lambda: zips({"a.mp3": bytes(65 << 20)}, 8), "archive_bomb"),
        ("300 MB in gz", partial(archives.bomb, "gz", 300 << 20), "archive_bomb"),
        ("300 MB in bz2", partial(archives.bomb, "bz2", 300 << 20), "archive_bomb"),
        ("300 MB in xz", partial(archives.bomb, "xz", 300 << 20), "archive_bomb"),
        ("xz that asks for 1.5 GiB", lambda: archives.grown_xz(archives.tar_of(sound)), "decoder_memory"),
        ("2001 entries", lambda: zips({f"{number}.mp3": b"x" for number in range(2001)}), "archive_too_many"),
        ("501 songs", lambda: zips({f"{number}.mp3": b"x" for number in range(501)}), "too_many_songs"),
        ("60 % of a zip", lambda: media.cut(zips(sound), 0.6), "archive_truncated"),
        ("a password", lambda: zip_of([Entry(name=b"a.mp3", content=b"x", flags=1)]), "archive_encrypted"),
        ("a header that contradicts", lambda: zip_of([Entry(name=b"a.mp3", content=b"x", local={"name": b"b.mp3"})]),
         "archive_unreadable"),
        ("an archive and nothing else", lambda: zips({"a.zip": zips(sound)}), "archive_empty"),
        ("25 broken songs", lambda: zips({f"{number}.mp3": b"no song" for number in range(25)}), "too_many_broken"),
        ("no song", lambda: zips({"a.txt": b"x"}), "no_songs"),
        ("7z", lambda: b"7z\xbc\xaf\x27\x1c" + media.noise(), "unsupported_archive"),
    )  # fmt: skip
    for what, make, code in rejected:
        yield Case("overlap", what, "album", "a.zip", make, "reject", code, memory=6 << 20)
    yield Case("overlap", "an archive in a zip", "album", "a.zip", lambda: songs(b__zip=zips(sound)), "warn",
               "nested_archive")  # fmt: skip
    yield Case("overlap", "overlapping zip", "video", "a.mp4", archives.overlapping_zip, "reject", "not_a_video")
    yield Case("overlap", "overlapping zip", "artwork", "a.jpg", archives.overlapping_zip, "reject", "not_an_image")
    for what, mode in (("link", 0o120777), ("device", 0o020666), ("pipe", 0o010666)):
        link = Entry(name=b"b.mp3", content=b"../../../../etc/passwd", mode=mode)
        listed = [entry("a.mp3", sound["a.mp3"]), link]
        yield Case("names", f"a {what} in a zip", "album", "a.zip", partial(zip_of, listed), "warn", "links_left_out")
    for what, kind in (("link", tarfile.SYMTYPE), ("hard link", tarfile.LNKTYPE), ("device", tarfile.CHRTYPE)):
        info = tarfile.TarInfo("b.mp3")
        info.type, info.linkname = kind, "/etc/passwd"
        made = partial(archives.tar_with, [(tarfile.TarInfo("a.mp3"), sound["a.mp3"]), (info, b"")])
        yield Case("names", f"a {what} in a tar", "album", "a.tar", made, "warn", "links_left_out")
    yield Case("names", "a name of 5000 bytes", "album", "a.zip", lambda: zips({"n" * 5000 + ".mp3": b"x"}), "reject",
               "archive_names")  # fmt: skip


CASES = [
    *of_texts(), *of_tags(), *of_pictures(), *of_cut_files(), *of_other_kinds(), *of_archives()
]  # fmt: skip
HARMLESS = {"no_cover", "small_picture", "not_square", "tracks_missing"}
"""What is said about sound files, too."""


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_table(case: Case, server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    data = made(case, tmp_path_factory)
    before = server.outside()
    if isinstance(data, bytes):
        hashlib.sha256(data)  # the kernel may have put pages aside that were made long ago: they are no growth
    with flat(case.memory, case.seconds, case.decoding):
        task = server.send(data, case.contenttype, case.name)
    assert server.outside() == before
    for finding in task.findings:
        for_people(finding.sentence, does=False)
    if case.outcome == "reject":
        assert (task.state, task.code) == (State.INVALIDCONTENT, case.code), task.message
        for_people(task.message or "", does=True)
        assert task.deadline is not None, "a refused file is kept, but not for ever"
    else:
        assert (task.state, task.code) == (State.PREPROCESSED, None), task.message
        severity = "hold" if case.outcome == "hold" else "warn"
        codes = {finding.code for finding in task.findings if finding.severity == severity}
        assert case.code in codes if case.code else codes <= HARMLESS
        assert task.open_questions == () or case.outcome == "hold"
    if case.outcome == "hold":
        with pytest.raises(Refused) as refused:
            server.import_(NAMES[case.contenttype])
        assert refused.value.code == case.code
        for_people(refused.value.sentence, does=True)
        assert server.outside() == before
        (question,) = task.open_questions
        server.uploads.annotate("one", {f"answers.{case.code}": question.options[0]})
    if case.outcome != "reject":
        task = server.import_(NAMES[case.contenttype])
        assert (task.state, task.message) == (State.IMPORTCOMPLETE, None)
        placed = [server.root / file.root / file.path for file in task.placed]
        assert all(path.is_file() and not path.is_symlink() for path in placed)
        if case.missing:
            made_of_it = [path for path in placed if path.suffix == ".jpg"]
            assert len(made_of_it) == 4
            for path in made_of_it:
                assert case.missing not in path.read_bytes()
                assert not zipfile.is_zipfile(path)
        server.uploads.undo("one")
        server.worker.drain(100)
        assert server.files() == {"canary.mp4"}, "undo took everything back"
    server.remove()
    server.goes_on(case.contenttype)


def made(case: Case, tmp_path_factory: pytest.TempPathFactory) -> bytes | Path:
    """The file; a large one somewhere else."""
    if not case.large:
        return cast("Callable[[], bytes]", case.data)()
    path = tmp_path_factory.mktemp("large") / "file"
    cast("Callable[[Path], None]", case.data)(path)
    assert path.stat().st_size > 200 << 20
    return path


def test_every_line_of_the_table_is_tested() -> None:
    assert {case.line for case in CASES} | {"names", "artists"} == set(LINES)


def test_the_documentation_says_what_becomes_of_each() -> None:
    page = (Path(__file__).parents[1] / "docs/content.md").read_text(encoding="utf-8")
    for outcome, name in (("reject", "refused"), ("hold", "asked"), ("warn", "told")):
        table = page.partition(f"<!-- table: {name} -->")[2].partition("<!-- end -->")[0]
        lines = {line.split("`")[1]: line.split("|")[2] for line in table.splitlines() if line.startswith("| `")}
        for case in CASES:
            if case.outcome == outcome:
                steps = [group for group in lines[case.code].split(";") if f"`{case.contenttype}`" in group]
                assert any("preprocess" in group for group in steps), case


# ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────

BAD_NAMES: Final[Mapping[str, str]] = {
    "upwards": "../../../etc/passwd",
    "upwards, as on Windows": "..\\..\\evil",
    "absolute": "/etc/passwd",
    "a drive": "C:\\evil",
    "a zero byte": "ev\0il",
    "a device": "CON",
    "a device with an extension": "nul.txt",
    "300 bytes": "ä" * 150,
    "300 characters beyond the first plane": "𝄞" * 300,
    "right to left": "evil\u202e3pm",
    "two alphabets": "e\u0301vil\u200b\ufeff",
    "decomposed": unicodedata.normalize("NFD", "Björk"),
    "hidden": ".evil",
    "dots behind": "evil...",
    "spaces around": "  evil  ",
    "a dash in front": "-rf",
    "lines": "e\r\nv\til\x1b[31m",
    "half a character": "ev\udc80il\ud83d",
    "nothing": "",
    "only spaces": "   ",
    "only dots": "..",
    "only what cannot be seen": "\u200b\u202e",
}


def raw(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def safe(server: Server, task: UploadTask) -> None:
    """Everything that was placed is in its tree, as a component of a path that no system and nobody misreads."""
    assert task.state is State.IMPORTCOMPLETE, task.message
    placed = {f"{file.root}/{file.path}" for file in task.placed}
    assert server.files() == placed | {"canary.mp4"}
    for path in placed:
        for part in path.split("/"):
            assert len(part.encode()) <= 255
            assert part == unicodedata.normalize("NFC", part)
            assert part.strip() == part
            assert not part.startswith((".", "-"))
            assert not part.endswith(".")
            assert "\\" not in part
            assert {unicodedata.category(c)[0] for c in part} & {"C"} == set(), ascii(part)
            assert part.partition(".")[0].rstrip().upper() not in ("CON", "NUL")
    said = [task.message or "", *(finding.sentence for finding in task.findings), str(task.content.get("left_out", ""))]
    assert all(c.isprintable() for sentence in said for c in sentence)
    assert isinstance(server.catalogue, Catalogue)
    assert server.catalogue.check() == []


@pytest.mark.parametrize("packed", ["zip", "tar"])
@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
def test_names_in_archives(name: str, packed: str, server: Server) -> None:
    """Of files, and of directories with files in them; the songs have no tags, so that all names come from there."""
    sound, other = song("mp3", 0.5), song("mp3", 0.5, seed=1)
    names = [raw(name) + b".mp3", raw(name) + b"/02 Other.mp3"]
    if packed == "zip":
        data = zip_of([Entry(name=at, content=it, flags=0x800) for at, it in zip(names, (sound, other), strict=True)])
    elif "\0" in name:
        pytest.skip("a tar has no such names")
    else:
        parts: list[tuple[tarfile.TarInfo | bytes, bytes]] = []
        for at, it in zip(names, (sound, other), strict=True):
            parts += [archives.pax_header({"path": at}), (tarfile.TarInfo("x.mp3"), it)]
        data = archives.tar_with(parts)
    before = server.outside()
    task = server.send(data, "album", "album." + packed)
    assert server.outside() == before
    assert task.state is State.PREPROCESSED, task.message
    safe(server, titled(server, name, NAMES["album"]))
    assert all(path.startswith("music/Alpha/2020 - Beta/") for path in server.files() if path.startswith("music/"))
    server.remove()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
def test_names_in_tags(name: str, encoding: Literal["utf-8", "utf-16"], server: Server) -> None:
    """They become the path when nobody says anything else. What has nothing to be read in it has to be said."""
    code = b"\3" if encoding == "utf-8" else b"\1"
    content = code + name.encode(encoding, "surrogatepass")
    data = with_id3(song("mp3", 0.5), [(frame, content) for frame in ("TIT2", "TPE1", "TPE2", "TALB")])
    task = server.send(data, "album", "song.mp3")
    assert task.state is State.PREPROCESSED, task.message
    problems = server.uploads.plan("one").problems
    for problem in problems:
        for_people(problem.sentence, does=True)
        assert problem.code in ("annotation_missing", "unusable_name")
    wanted = {key: value for key, value in NAMES["album"].items() if any(f"“{key}”" in p.sentence for p in problems)}
    assert wanted.keys() == {"release", *([] if readable(name) else ["artistname", "albumname"])}
    safe(server, titled(server, name, wanted))
    assert all(path.count("/") == 3 for path in server.files() if path.startswith("music/"))


def titled(server: Server, name: str, annotations: Mapping[str, JSON]) -> UploadTask:
    """Import it; a song whose title cannot be a name gets one after that was asked for."""
    task = server.import_(annotations)
    if task.state is State.INTEGRATIONFAILED and not readable(name):
        assert task.code == "unusable_name"
        for_people(task.message or "", does=True)
        assert server.files() == {"canary.mp4"}
        tracks = task.content["tracks"]
        assert isinstance(tracks, Sequence)
        titles = [track["title"] for track in tracks if isinstance(track, Mapping)]
        number = next(at for at, title in enumerate(titles, 1) if not readable(str(title)))
        server.uploads.annotate("one", tracks={str(number): {"title": "One"}})
        server.uploads.retry("one")
        server.worker.drain(100)
        task = server.import_({})
    return task


def readable(name: str) -> bool:
    return any(unicodedata.category(c)[0] in "LNSP" and c not in "./\\" for c in name)


@pytest.mark.parametrize("contenttype", ["video", "album", "artwork"])
@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
def test_names_in_annotations(name: str, contenttype: str, server: Server) -> None:
    """What cannot be a name is refused with the key of the annotation, and nothing is placed."""
    make, filename = GOOD[contenttype]
    server.send(make(), contenttype, filename)
    annotations = {key: name if key != "release" else "2020" for key in NAMES[contenttype]}
    if contenttype == "artwork":  # an album of that name, as long as the catalogue takes it
        assert isinstance(server.catalogue, Catalogue)
        with suppress(UploadError, ValueError):
            server.catalogue.add_album(name, name)
    if name.encode("utf-8", "ignore").decode() != name:
        with pytest.raises(Refused) as refused:
            server.import_(annotations)
        assert refused.value.code == "annotations_invalid"
        assert server.files() == {"canary.mp4"}
        return
    task = server.import_(annotations)
    if task.state is State.IMPORTCOMPLETE:
        safe(server, task)
    else:
        assert (task.state, task.code) in (
            (State.INTEGRATIONFAILED, "unusable_name"),
            (State.INTEGRATIONFAILED, "annotation_missing"),
            (State.INTEGRATIONFAILED, "album_not_found"),
        )
        for_people(task.message or "", does=True)
        assert server.files() == {"canary.mp4"}
    assert readable(name) or task.state is State.INTEGRATIONFAILED


# ── artists ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "spelling", [unicodedata.normalize("NFD", "Björk"), "BJÖRK", "björk"], ids=["decomposed", "upper", "lower"]
)
@pytest.mark.parametrize("contenttype", ["video", "album"])
def test_artists_that_differ_by_case_or_form_are_one(contenttype: str, spelling: str, server: Server) -> None:
    for uploadid, artist, made in (
        ("first", "Björk", {"video": media.video(seconds=0.5, seed=1), "album": song("mp3", 1)}),
        ("second", spelling, {"video": media.video(seconds=0.5, seed=2), "album": song("mp3", 1, seed=2)}),
    ):
        server.send(made[contenttype], contenttype, f"{uploadid}.mp4", uploadid)
        names: dict[str, JSON] = {"artistname": artist, "name": uploadid, "albumname": uploadid, "release": "1993"}
        task = server.import_(names, uploadid)
        assert task.state is State.IMPORTCOMPLETE, task.message
    assert [path.name for path in (server.root / "music").iterdir()] == ["Björk"]
    assert task.plan is not None
    warnings = [problem for problem in task.plan.problems if problem.code == "artist_matched"]
    looks_the_same = unicodedata.normalize("NFC", spelling) == "Björk"
    assert [warning.severity for warning in warnings] == ([] if looks_the_same else ["warn"])
    for warning in warnings:
        for_people(warning.sentence, does=False)
    assert isinstance(server.catalogue, Catalogue)
    assert [artist.name for artist in server.catalogue.artists() if artist.name != "Alpha"] == ["Björk"]


@pytest.mark.parametrize("answer", ["Björk", "Bjork"])
def test_artists_that_are_merely_alike_are_asked_about(answer: str, server: Server) -> None:
    server.send(song("mp3", 1), "album", "first.mp3", "first")
    server.import_({"artistname": "Björk", "albumname": "Debut", "release": "1993"}, "first")
    server.send(song("mp3", 1, seed=2), "album", "second.mp3", "second")
    names: dict[str, JSON] = {"artistname": "Bjork", "albumname": "Post", "release": "1995"}
    with pytest.raises(Refused) as refused:
        server.import_(names, "second")
    assert refused.value.code == "artist_similar"
    for_people(refused.value.sentence, does=True)
    assert server.uploads.get("second").state is State.PREPROCESSED
    task = server.import_({**names, "answers.artist_similar": answer}, "second")
    assert (task.state, task.placed[0].path.partition("/")[0]) == (State.IMPORTCOMPLETE, answer)
