"""Two hundred people send songs, albums, videos and covers at once, and one in ten of them means harm.

Everything is real: the content types, their decoder processes, the catalogue, the trees, the management threads.
"""

from __future__ import annotations

import gc
import hashlib
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from attrs import frozen

from stagedoor.content import builtin
from stagedoor.engine import Uploads
from stagedoor.library.catalogue import Catalogue
from stagedoor.lifecycle import State
from stagedoor.settings import Settings
from stagedoor.tasks import JSON, Offer, UploadTask
from stagedoor.testing import archives, media, pictures, sounds
from stagedoor.testing.sounds import Kind
from stagedoor.worker import manage

UPLOADS, THREADS, STEPS = 200, 16, 4
PATIENCE = 300.0
"""Seconds after which a test that hangs fails."""

SONGS: Sequence[Kind] = ("mp3", "m4a", "flac", "ogg", "opus", "wav")
HOSTILE: Sequence[tuple[str, str, Callable[[], bytes], str]] = (
    ("video", "clip.mp4", media.ffconcat, "not_a_video"),
    ("video", "clip.mp4", media.truncated_mp4, "truncated"),
    ("video", "clip.webm", media.huge_frame, "frame_too_large"),
    ("video", "clip.m4v", media.audio_with_cover, "no_video"),
    ("album", "song.mp3", sounds.large_tag, "tags_too_large"),
    ("album", "song.ogg", sounds.unfinished_ogg, "truncated"),
    ("album", "album.zip", archives.overlapping_zip, "archive_overlap"),
    ("album", "album.txz", partial(archives.bomb, "xz", 100 << 20), "archive_bomb"),
    ("album", "album.zip", lambda: archives.zips({"a.mp3": media.noise()}), "no_songs"),
    ("artwork", "cover.png", pictures.huge_picture, "picture_too_large"),
)


@frozen(eq=False)
class Client:
    """Somebody with a file.

    Attributes:
        number: Of the upload.
        contenttype: As what it is sent.
        filename: As which file.
        data: Its bytes.
        annotations: What is said about it.
        placed: What has to be in the music directory afterwards, by path.
        code: Why it is refused; empty when it is not.
    """

    number: int
    contenttype: str
    filename: str
    data: bytes
    annotations: Mapping[str, JSON]
    placed: Mapping[str, bytes]
    code: str = ""

    @property
    def id(self) -> str:
        return f"upload-{self.number}"

    def run(self, uploads: Uploads) -> UploadTask:
        """All that a client does."""
        dice = random.Random(self.number)
        sha1 = hashlib.sha1(self.data, usedforsecurity=False).hexdigest()
        offer = Offer(self.id, filename=self.filename, contenttype=self.contenttype, filesize=len(self.data), sha1=sha1)
        task = uploads.initiate(offer)
        while task.offset < len(self.data):
            part = self.data[task.offset : task.offset + dice.randint(20_000, 2_000_000)]
            task = uploads.receive(self.id, offset=task.offset, data=part)
        uploads.annotate(self.id, self.annotations)
        uploads.wait(self.id, timeout=PATIENCE)
        if uploads.get(self.id).state is State.PREPROCESSED:
            uploads.request(self.id, trigger_import=True)
            uploads.wait(self.id, timeout=PATIENCE)
        return uploads.get(self.id)


def client(number: int) -> Client:
    """The clients, as different as they are."""
    if number % 10 == 0:
        contenttype, filename, make, code = HOSTILE[number // 10 % len(HOSTILE)]
        return Client(number, contenttype, filename, make(), {"artistname": "Evil"}, {}, code)
    artist, title = f"Artist{number % 7}", f"Title{number}"
    if number % 10 == 1:
        data = media.video(0.5, (64, 36), "webm" if number % 20 == 1 else "mp4", title=title)
        name = f"clip.{'webm' if number % 20 == 1 else 'mp4'}"
        names: dict[str, JSON] = {"artistname": artist, "name": title, "release": "2020"}
        return Client(number, "video", name, data, names, {f"{artist}/2020 - {title}.{name[5:]}": data})
    names = {"artistname": artist, "albumname": title, "release": "2020"}
    if number % 10 in (2, 3):
        return Client(number, "artwork", "cover.jpg", pictures.picture("JPEG", (64 + number, 64)), names, {})
    kind = SONGS[number % len(SONGS)]
    if number % 10 in (4, 5, 6):
        songs = {
            f"{track} Song.{kind}": sounds.song(kind, 0.3, title="Song", track=str(track), seed=3 * number + track)
            for track in (1, 2)
        }
        data = archives.zips({**songs, "cover.jpg": pictures.picture("JPEG", (64, 64))})
        placed = {f"{artist}/2020 - {title}/{name}": song for name, song in songs.items()}
        return Client(number, "album", "album.zip", data, names, placed)
    data = sounds.song(kind, 0.3, title="Song", track="1", seed=3 * number)
    return Client(number, "album", f"song.{kind}", data, names, {f"{artist}/2020 - {title}/1 Song.{kind}": data})


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def children() -> set[str]:
    """Processes that this one started and that are there still."""
    return {pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


@pytest.mark.slow
def test_a_crowd(tmp_path: Path) -> None:
    clients = [client(number) for number in range(UPLOADS)]
    gc.collect()
    before = threading.active_count(), descriptors(), children()
    contents, close = builtin(scratch=tmp_path, others=False)
    settings = Settings(free_floor=0, backoff=0.0)
    with Uploads.open(
        tmp_path / "uploads", music=tmp_path / "music", artwork=tmp_path / "artwork", contents=contents,
        durability="process", settings=settings,
    ) as uploads:  # fmt: skip
        catalogue = uploads.ports.library
        assert isinstance(catalogue, Catalogue)
        for one in clients:
            if one.contenttype == "artwork" and not one.code:
                catalogue.add_album(str(one.annotations["artistname"]), str(one.annotations["albumname"]))
        with manage(uploads, threads=STEPS), ThreadPoolExecutor(THREADS) as pool:
            ended = dict(zip(clients, pool.map(lambda one: one.run(uploads), clients), strict=True))
        assert len(children() - before[2]) <= 4, "two decoders for single files, and two for archives"

        expected = {f"music/{path}": data for one in clients for path, data in one.placed.items()}
        for one, task in ended.items():
            if one.code:
                assert (task.state, task.code) == (State.INVALIDCONTENT, one.code), task.message
                assert (task.message or "").endswith(".")
                assert task.placed == ()
            else:
                assert (task.state, task.message) == (State.IMPORTCOMPLETE, None), one.filename
                music = {file.path for file in task.placed if file.root == "music"}
                assert music == set(one.placed)
        assert {one.code for one in clients} >= {code for *_, code in HOSTILE}
        found = {
            str(path.relative_to(tmp_path)): path.read_bytes()
            for path in (tmp_path / "music").rglob("*")
            if path.is_file()
        }
        assert found == expected
        artwork = {f"artwork/{file.path}" for task in ended.values() for file in task.placed if file.root == "artwork"}
        assert {str(p.relative_to(tmp_path)) for p in (tmp_path / "artwork").rglob("*") if p.is_file()} == artwork
        kinds = Counter(one.contenttype for one in clients if not one.code)
        counts = catalogue.counts()
        assert counts.videos == kinds["video"]
        assert counts.songs == sum(len(one.placed) for one in clients if one.contenttype == "album")
        assert catalogue.check() == []
    close()
    gc.collect()
    assert (threading.active_count(), descriptors(), children()) == before
