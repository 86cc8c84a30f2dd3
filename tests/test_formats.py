"""Every format that is taken: sent in chunks, looked at, placed, imported with all its artwork, and taken back."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from stagedoor.adapters.inprocess import InlineBus
from stagedoor.content import builtin
from stagedoor.engine import Uploads
from stagedoor.library.catalogue import Catalogue
from stagedoor.lifecycle import State
from stagedoor.ports import ContentType
from stagedoor.settings import Settings
from stagedoor.tasks import JSON, Offer, UploadTask
from stagedoor.testing import archives, media, pictures, sounds
from stagedoor.testing.media import Container
from stagedoor.testing.sounds import Kind
from stagedoor.worker import Worker

CHUNK = 4099
"""A prime number of bytes, so that no chunk ends where something in a file ends."""


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[ContentType]]:
    made, close = builtin(scratch=tmp_path_factory.mktemp("scratch"), others=False)
    yield made
    close()


class Server:
    """Uploads, worked on when a test says so."""

    def __init__(self, root: Path, contents: Sequence[ContentType]) -> None:
        self.root = root
        self.uploads = Uploads.open(
            root / "uploads", music=root / "music", artwork=root / "artwork", contents=contents, durability="process",
            bus=InlineBus(), settings=Settings(free_floor=0),
        )  # fmt: skip
        assert isinstance(self.uploads.ports.library, Catalogue)
        self.catalogue = self.uploads.ports.library
        self.worker = Worker(self.uploads)

    def bring(self, data: bytes, contenttype: str, filename: str, annotations: Mapping[str, JSON]) -> UploadTask:
        """All the way."""
        sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        offer = Offer("one", filename=filename, contenttype=contenttype, filesize=len(data), sha1=sha1)
        task = self.uploads.initiate(offer)
        while task.offset < len(data):
            task = self.uploads.receive("one", offset=task.offset, data=data[task.offset : task.offset + CHUNK])
        self.worker.drain(100)
        task = self.uploads.get("one")
        assert (task.state, task.open_questions) == (State.PREPROCESSED, ()), task.message
        self.uploads.annotate("one", annotations)
        self.uploads.request("one", trigger_import=True)
        self.worker.drain(100)
        task = self.uploads.get("one")
        assert (task.state, task.message) == (State.IMPORTCOMPLETE, None)
        return task

    def library(self) -> tuple[object, ...]:
        """Everything in the trees and in the catalogue."""
        trees = {
            f"{tree}/{path.relative_to(self.root / tree)}": path.read_bytes() if path.is_file() else None
            for tree in ("music", "artwork")
            for path in (self.root / tree).rglob("*")
        }
        assert self.catalogue.check() == []
        return trees, self.catalogue.content_hash()

    def take_back(self, before: tuple[object, ...]) -> None:
        """Nothing is left of it, and nothing is missing."""
        self.uploads.undo("one")
        self.worker.drain(100)
        assert self.uploads.get("one").state is State.PREPROCESSED
        assert self.library() == before

    def file(self, path: str, tree: str = "music") -> bytes:
        return (self.root / tree / path).read_bytes()


@pytest.fixture
def server(tmp_path: Path, contents: Sequence[ContentType]) -> Iterator[Server]:
    made = Server(tmp_path, contents)
    yield made
    made.uploads.close()


def is_jpeg(data: bytes, side: int | None = None) -> None:
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        image.load()
        assert side is None or max(image.size) == side


# ── songs ─────────────────────────────────────────────────────────────────────────────────────────────────────

SONGS: Mapping[Kind, tuple[str, str]] = {
    "mp3": ("mp3", "mp3"),
    "m4a": ("m4a", "aac"),
    "alac": ("m4a", "alac"),
    "aac": ("aac", "aac"),
    "flac": ("flac", "flac"),
    "ogg": ("ogg", "vorbis"),
    "opus": ("opus", "opus"),
    "wav": ("wav", "pcm_s16le"),
    "aiff": ("aiff", "pcm_s16be"),
}
"""Extension and codec of each."""


@pytest.mark.parametrize("kind", SONGS)
def test_songs(kind: Kind, server: Server) -> None:
    extension, codec = SONGS[kind]
    before = server.library()
    cover = media.still_cover((640, 640))
    data = sounds.song(kind, 3, title="Jóga", artist="Björk", album="Homogenic", date="1997", track="2/10", cover=cover)
    task = server.bring(data, "album", f"02 Jóga.{extension}", {})
    path = f"Björk/1997 - Homogenic/2 Jóga.{extension}"
    assert server.file(path) == data
    (song,) = [found.entry for found in server.catalogue.songs()]
    assert (song.path, song.name, song.artist, song.number) == (path, "Jóga", "Björk", 2)
    assert (song.codec, song.size, song.sha256) == (codec, len(data), hashlib.sha256(data).hexdigest())
    assert song.duration == pytest.approx(3, rel=0.05)
    (album,) = server.catalogue.albums()
    assert (album.name, album.release, album.cover) == ("Homogenic", "1997", "Björk - Homogenic.jpg")
    assert {file.path for file in task.placed if file.root == "artwork"} == {
        "Björk - Homogenic.jpg", *(f"Björk - Homogenic ({side}).jpg" for side in (50, 150, 500))
    }  # fmt: skip
    for side, name in ((640, ""), (500, " (500)"), (150, " (150)"), (50, " (50)")):
        is_jpeg(server.file(f"Björk - Homogenic{name}.jpg", "artwork"), side)
    server.take_back(before)


def test_songs_of_one_album_that_come_one_by_one(server: Server) -> None:
    """As people do who drop a directory of songs."""
    cover = media.still_cover((640, 640))
    uploads = server.uploads
    for number in (1, 2):
        data = sounds.song(
            "mp3", 1, title=f"Song {number}", artist="Björk", album="Vespertine", date="2001", track=str(number),
            cover=cover,
        )  # fmt: skip
        offer = Offer(f"song-{number}", filename=f"{number}.mp3", contenttype="album", filesize=len(data))
        uploads.initiate(offer)
        uploads.receive(offer.id, offset=0, data=data)
    server.worker.drain(100)
    for number in (1, 2):
        uploads.request(f"song-{number}", trigger_import=True)
    while any([uploads.perform(f"song-{number}") for number in (1, 2)]):  # a step of each in turn
        pass
    for number in (1, 2):
        task = uploads.get(f"song-{number}")
        assert (task.state, task.code) == (State.IMPORTCOMPLETE, None)
    covers = [[file for file in uploads.get(f"song-{number}").placed if file.root == "artwork"] for number in (1, 2)]
    names = sorted(min((file.path for file in cover), key=len) for cover in covers)
    assert names == ["Björk - Vespertine [2].jpg", "Björk - Vespertine.jpg"]  # each song brought its own
    shown = server.catalogue.albums()[0].cover
    newest = max((1, 2), key=lambda number: uploads.get(f"song-{number}").created)
    uploads.undo(f"song-{newest}")
    assert {shown, server.catalogue.albums()[0].cover} == set(names)  # and one that goes takes only its own along


PACKED: Mapping[str, Callable[[Mapping[str, bytes]], bytes]] = {
    "zip": archives.zips,
    "tar": archives.tar_of,
    "tar.gz": partial(archives.tar_of, packing="gz"),
    "tar.bz2": partial(archives.tar_of, packing="bz2"),
    "tar.xz": partial(archives.tar_of, packing="xz"),
}


@pytest.mark.parametrize("packed", PACKED)
def test_archives_of_every_kind_of_song(packed: str, server: Server) -> None:
    before = server.library()
    songs = {
        f"{number:02} {kind}.{SONGS[kind][0]}": sounds.song(
            kind, 1, title=f"In {kind}", artist="Björk", album="Post", date="1995", track=str(number)
        )
        for number, kind in enumerate(SONGS, 1)
    }
    data = PACKED[packed]({**songs, "cover.jpg": pictures.picture("JPEG")})
    server.bring(data, "album", f"Post.{packed}", {})
    found = [song.entry for song in server.catalogue.songs()]
    assert {song.path.rpartition("/")[0] for song in found} == {"Björk/1995 - Post"}
    assert {(song.number, song.codec) for song in found} == {
        (number, SONGS[kind][1]) for number, kind in enumerate(SONGS, 1)
    }
    assert sorted(server.file(song.path) for song in found) == sorted(songs.values())
    for song in found:
        assert song.duration == pytest.approx(1, rel=0.05)
    assert len(server.catalogue.albums()) == 1
    server.take_back(before)


# ── videos ────────────────────────────────────────────────────────────────────────────────────────────────────

VIDEOS: Mapping[Container, str] = {"mp4": "h264", "m4v": "h264", "webm": "vp8", "mkv": "vp8"}


@pytest.mark.parametrize("container", VIDEOS)
def test_videos(container: Container, server: Server) -> None:
    before = server.library()
    data = media.video(4, (160, 90), container)
    names: dict[str, JSON] = {"artistname": "Björk", "name": "Army of Me", "release": "1995"}
    task = server.bring(data, "video", f"clip.{container}", names)
    path = f"Björk/1995 - Army of Me.{container}"
    assert server.file(path) == data
    (video,) = [found.entry for found in server.catalogue.videos()]
    assert (video.path, video.name, video.artist, video.release) == (path, "Army of Me", "Björk", "1995")
    assert (video.codec, video.width, video.height, video.size) == (VIDEOS[container], 160, 90, len(data))
    assert video.duration == pytest.approx(4, rel=0.05)
    made = [file.path for file in task.placed if file.root == "artwork"]
    assert len(made) == 11
    for name in made:
        if name.endswith(".jpg"):
            is_jpeg(server.file(name, "artwork"), 150 if "(150)" in name else 160)
    server.take_back(before)


# ── covers ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("form", "extension"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")])
def test_covers(form: pictures.Form, extension: str, server: Server) -> None:
    server.catalogue.add_album("Björk", "Debut", "1993")
    before = server.library()
    names: dict[str, JSON] = {"artistname": "Björk", "albumname": "Debut"}
    server.bring(pictures.picture(form), "artwork", f"cover.{extension}", names)
    (album,) = server.catalogue.albums()
    assert album.cover == "Björk - Debut.jpg"
    with Image.open(io.BytesIO(server.file("Björk - Debut.jpg", "artwork")), formats=("JPEG",)) as image:
        assert image.size == (600, 600)
        for colour, at in zip(pictures.CORNERS, ((9, 9), (590, 9), (9, 590), (590, 590)), strict=True):
            shown = image.getpixel(at)
            assert isinstance(shown, tuple)
            assert all(abs(a - b) < 12 for a, b in zip(colour, shown, strict=True))
    for side in (50, 150, 500):
        is_jpeg(server.file(f"Björk - Debut ({side}).jpg", "artwork"), side)
    server.take_back(before)
