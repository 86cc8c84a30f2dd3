"""Songs, sound and hostile, through real children."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import random
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

import pytest
from attrs import asdict

from stagedoor.content.decoding import SENTENCES, Answer, Decoder, DecoderLimits
from stagedoor.content.decoding.audio import AudioFacts, AudioTags, embedded_cover, probe_audio
from stagedoor.errors import ContentRejected
from stagedoor.ports import Source
from stagedoor.testing import media, sounds
from stagedoor.testing.sounds import KINDS, Kind, id3_picture, id3_text, song, with_id3

PATIENT = DecoderLimits(seconds=300, cpu_seconds=300, start_seconds=300, requests=1000)
CODES = {
    "not_audio", "is_video", "unsupported_sound", "unreadable", "truncated", "undecodable", "tags_too_large",
}  # fmt: skip
ALL_CODES = {*CODES, "not_an_image", "picture_damaged", "picture_too_large"}


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(limits=PATIENT) as made:
        yield made


def of(data: bytes) -> Source:
    @contextlib.contextmanager
    def opened() -> Iterator[BinaryIO]:
        yield io.BytesIO(data)

    return opened


def at(path: Path) -> Source:
    @contextlib.contextmanager
    def opened() -> Iterator[BinaryIO]:
        with path.open("rb", buffering=0) as file:
            yield file

    return opened


def facts(decoder: Decoder, data: bytes) -> AudioFacts:
    return probe_audio(decoder, of(data))


def tags(decoder: Decoder, data: bytes) -> AudioTags:
    found = facts(decoder, data)
    assert found.warnings == ()
    return found.tags


def refused(decoder: Decoder, data: bytes) -> str:
    with pytest.raises(ContentRejected) as caught:
        facts(decoder, data)
    assert caught.value.sentence == SENTENCES[caught.value.code]
    return caught.value.code


# ── what they are ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("kind", "true", "codec", "rate", "bits", "kbits"),
    [
        ("mp3", "mp3", "mp3", 44_100, None, (120, 136)),
        ("m4a", "m4a", "aac", 44_100, None, (120, 136)),
        ("alac", "m4a", "alac", 44_100, 24, (500, 1500)),
        ("aac", "aac", "aac", 44_100, None, (120, 136)),
        ("flac", "flac", "flac", 44_100, 16, (60, 700)),
        ("ogg", "ogg", "vorbis", 44_100, None, (20, 130)),
        ("opus", "opus", "opus", 48_000, None, (50, 130)),
        ("wav", "wav", "pcm_s16le", 44_100, 16, (1411, 1412)),
        ("aiff", "aiff", "pcm_s16be", 44_100, 16, (1411, 1412)),
    ],
)
def test_facts(
    decoder: Decoder, kind: Kind, true: str, codec: str, rate: int, bits: int | None, kbits: tuple[int, int]
) -> None:
    found = facts(decoder, song(kind))
    assert (found.kind, found.codec, found.sample_rate, found.channels, found.bits) == (true, codec, rate, 2, bits)
    assert found.lossless is (bits is not None)
    assert found.duration == pytest.approx(2, abs=0.06)
    assert kbits[0] * 1000 <= found.bitrate <= kbits[1] * 1000
    assert (found.tags, found.cover, found.warnings) == (AudioTags(), False, ())


@pytest.mark.parametrize("kind", KINDS)
def test_short_and_silent(decoder: Decoder, kind: Kind) -> None:
    assert facts(decoder, song(kind, 0.3)).duration == pytest.approx(0.3, abs=0.07)
    assert facts(decoder, song(kind, 12, silent=True)).duration == pytest.approx(12, abs=0.1)


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(lambda: b"RIFF\0\0\0\0AVI " + song("mp3"), id="another head"),
        pytest.param(lambda: bytes(100_000) + song("mp3"), id="zeros"),
        pytest.param(lambda: song("mp3")[700:], id="starts within a frame"),
        pytest.param(lambda: song("mp3") + b"TAG" + bytes(125), id="ID3v1 behind"),
        pytest.param(lambda: with_id3(with_id3(song("mp3"), []), [id3_text("TIT2", "One")]), id="two tags"),
        pytest.param(lambda: song("mp3", muxer=(("write_xing", "0"),)), id="no count of frames"),
        pytest.param(lambda: song("mp3", rate=22_050), id="MPEG 2"),
        pytest.param(lambda: song("mp3", rate=8_000), id="MPEG 2.5"),
    ],
)
def test_mp3s_as_they_are(decoder: Decoder, made: Any) -> None:
    found = facts(decoder, made())
    assert found.kind == "mp3"
    assert found.duration == pytest.approx(2, abs=0.25)


def test_flac_behind_an_id3_tag(decoder: Decoder) -> None:
    found = facts(decoder, with_id3(song("flac", album="Homogenic"), [id3_text("TIT2", "Jóga")]))
    assert (found.kind, found.tags.title, found.tags.album) == ("flac", "Jóga", "Homogenic")


def test_flac_in_ogg_is_lossless(decoder: Decoder) -> None:
    found = facts(decoder, reboxed(song("flac", title="Jóga"), "ogg"))
    assert (found.kind, found.codec, found.bits, found.lossless) == ("ogg", "flac", 16, True)


def reboxed(data: bytes, form: str) -> bytes:
    """The same packets in another container."""
    import av

    buffer = io.BytesIO()
    with (
        av.open(io.BytesIO(data), "r") as source,
        av.open(buffer, "w", format=form, options={"fflags": "+bitexact"}) as target,
    ):
        given = source.streams.audio[0]
        made = target.add_stream_from_template(given)
        for packet in source.demux(given):
            if packet.dts is not None:
                packet.stream = made
                target.mux(packet)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("codec", "bits"), [("pcm_u8", 8), ("pcm_s24le", 24), ("pcm_s32le", 32), ("pcm_f32le", 32), ("pcm_f64le", 64)]
)
def test_wavs_of_other_widths(decoder: Decoder, codec: str, bits: int) -> None:
    import av

    buffer = io.BytesIO()
    with (
        av.open(io.BytesIO(song("wav")), "r") as source,
        av.open(buffer, "w", format="wav", options={"fflags": "+bitexact"}) as target,
    ):
        stream = target.add_stream(codec, rate=44_100, layout="stereo")
        assert isinstance(stream, av.AudioStream)
        resampler = av.AudioResampler(stream.codec_context.format, "stereo", 44_100)
        for frame in source.decode(audio=0):
            for piece in resampler.resample(frame):
                target.mux(stream.encode(piece))
    found = facts(decoder, buffer.getvalue())
    assert (found.codec, found.bits, found.lossless) == (codec, bits, True)
    assert found.duration == pytest.approx(2)


def test_wavs_that_were_never_finished(decoder: Decoder) -> None:
    data = bytearray(song("wav"))
    start = data.index(b"data") + 4
    for size in (0, 0xFFFFFFFF):
        data[4:8] = data[start : start + 4] = struct.pack("<I", size)
        assert facts(decoder, bytes(data)).duration == pytest.approx(2)


def test_wavs_for_more_than_four_gigabytes(decoder: Decoder) -> None:
    data = song("wav")
    start = data.index(b"data") + 8
    sizes = struct.pack("<QQQI", len(data) + 28, len(data) - start, 0, 0)
    large = (
        b"RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0" + sizes + data[12 : start - 4] + b"\xff\xff\xff\xff" + data[start:]
    )
    assert facts(decoder, large).duration == pytest.approx(2)
    assert refused(decoder, large[: len(large) * 2 // 3]) == "truncated"


@pytest.mark.parametrize("kind", ["ogg", "opus"])
def test_two_ogg_files_in_one(decoder: Decoder, kind: Kind) -> None:
    found = facts(decoder, song(kind, title="One") + song(kind, 4, seed=1))
    assert found.tags.title == "One"
    assert found.duration == pytest.approx(6, abs=0.2)
    assert refused(decoder, song(kind) + media.cut(song(kind, 4, seed=1), 0.9)) == "truncated"


def test_two_mp3s_in_one_are_not_cut_off(decoder: Decoder) -> None:
    assert facts(decoder, song("mp3") + song("mp3", 4, seed=1)).duration == pytest.approx(6, abs=0.2)


# ── what is not one ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("made", "code"),
    [
        pytest.param(media.empty, "not_audio", id="empty"),
        pytest.param(media.noise, "not_audio", id="noise"),
        pytest.param(lambda: media.noise(1 << 20, 7), "not_audio", id="much noise"),
        pytest.param(lambda: bytes(200_000), "not_audio", id="zeros"),
        pytest.param(lambda: b"\xff" * 200_000, "not_audio", id="nothing but sync"),
        pytest.param(media.ffconcat, "not_audio", id="ffconcat"),
        pytest.param(media.hls, "not_audio", id="hls"),
        pytest.param(media.sdp, "not_audio", id="sdp"),
        pytest.param(sounds.playlist, "not_audio", id="playlist"),
        pytest.param(sounds.midi, "not_audio", id="midi"),
        pytest.param(media.still_cover, "not_audio", id="jpeg"),
        pytest.param(lambda: with_id3(media.ffconcat(), []), "not_audio", id="ffconcat behind a tag"),
        pytest.param(lambda: b"fLaC" + media.ffconcat() * 9, "truncated", id="ffconcat behind fLaC"),
        pytest.param(lambda: song("mp3")[:200], "not_audio", id="one frame"),
        pytest.param(media.video, "is_video", id="mp4"),
        pytest.param(lambda: media.video(audio=False), "is_video", id="silent mp4"),
        pytest.param(lambda: media.video(container="m4v"), "is_video", id="m4v"),
        pytest.param(lambda: media.video(container="webm"), "not_audio", id="webm"),
        pytest.param(lambda: b"OggS" + media.noise(), "truncated", id="noise behind OggS"),
        pytest.param(lambda: b"fLaC" + media.noise(), "truncated", id="noise behind fLaC"),
        pytest.param(lambda: b"RIFF\x00\x10\0\0WAVE" + media.noise(), "unreadable", id="noise behind WAVE"),
        pytest.param(lambda: b"FORM\0\0\x10\0AIFF" + media.noise(), "unreadable", id="noise behind AIFF"),
        pytest.param(lambda: b"\0\0\0 ftypM4A " + media.noise(), "unreadable", id="noise behind a brand"),
        pytest.param(lambda: b"ID3\x03\0\0\0\0\x20\0" + bytes(100), "truncated", id="a tag that is longer"),
        pytest.param(lambda: other_wav(0x55), "unsupported_sound", id="mp3 in wav"),
        pytest.param(lambda: other_wav(2), "unsupported_sound", id="ADPCM"),
        pytest.param(lambda: other_wav(1, rate=0), "unreadable", id="no rate"),
    ],
)
def test_refused(decoder: Decoder, made: Any, code: str) -> None:
    assert refused(decoder, made()) == code


def other_wav(coding: int, rate: int = 44_100) -> bytes:
    data = bytearray(song("wav"))
    start = data.index(b"fmt ") + 8
    struct.pack_into("<HHI", data, start, coding, 2, rate)
    return bytes(data)


def test_a_cover_makes_no_video(decoder: Decoder) -> None:
    found = facts(decoder, media.audio_with_cover())
    assert (found.kind, found.codec) == ("m4a", "aac")


@pytest.mark.parametrize("kind", ["mp3", "m4a", "alac", "aac", "flac", "ogg", "opus"])
def test_sound_that_is_none(decoder: Decoder, kind: Kind) -> None:
    """Only the frames' heads are left, or not even these."""
    import av

    data = bytearray(song(kind, 4))
    with av.open(io.BytesIO(bytes(data)), "r") as container:
        places = [(packet.pos, packet.size) for packet in container.demux(audio=0) if packet.size and packet.pos]
    assert len(places) > 10
    rng = random.Random(5)
    for place, size in places:
        if kind not in ("ogg", "opus"):
            data[place + 8 : place + size - 2] = rng.randbytes(max(0, size - 10))
    if kind in ("ogg", "opus"):
        data = bytearray(emptied_ogg(bytes(data)))
    # Of these two nothing is left that looks like a packet, and so most of what the head promises is missing.
    assert refused(decoder, bytes(data)) == ("truncated" if kind in ("flac", "ogg") else "undecodable")


def emptied_ogg(data: bytes) -> bytes:
    """The pages from the fourth on with other content, and their checksums made anew."""
    made, place, number = [], 0, 0
    while place < len(data):
        table = data[place + 27 : place + 27 + data[place + 26]]
        head = data[place : place + 27] + table
        body = data[place + len(head) : place + len(head) + sum(table)]
        place += len(head) + len(body)
        if number > 2:
            body = b"\xff" * len(body)
            head = head[:22] + bytes(4) + head[26:]
            head = head[:22] + struct.pack("<I", ogg_checksum(head + body)) + head[26:]
        made.append(head + body)
        number += 1
    return b"".join(made)


def ogg_checksum(page: bytes) -> int:
    """RFC 3533, 6: not reflected, from zero."""
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
    return value


# ── cut off ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "aac"])
@pytest.mark.parametrize("share", [0.4, 0.6, 0.9])
def test_truncated(decoder: Decoder, kind: Kind, share: float) -> None:
    assert refused(decoder, sounds.truncated(kind, share, seconds=6)) == "truncated"


@pytest.mark.parametrize("kind", ["m4a", "alac"])
def test_truncated_with_the_index_behind(decoder: Decoder, kind: Kind) -> None:
    assert refused(decoder, media.cut(song(kind, 4), 0.6)) == "truncated"


@pytest.mark.parametrize("kind", ["ogg", "opus"])
def test_the_last_page_is_missed(decoder: Decoder, kind: Literal["ogg", "opus"]) -> None:
    assert refused(decoder, sounds.unfinished_ogg(kind)) == "truncated"


def test_a_hole_in_the_middle(decoder: Decoder) -> None:
    data = song("flac", 10)
    assert refused(decoder, data[: len(data) // 3] + data[len(data) // 2 :]) == "truncated"
    data = song("opus", 10)
    pages = [place for place in range(len(data)) if data.startswith(b"OggS", place)]
    assert refused(decoder, data[: pages[4]] + data[pages[8] :]) == "truncated"


def test_an_mp3_that_counts_more_than_it_has(decoder: Decoder) -> None:
    assert refused(decoder, sounds.overstated_mp3()) == "truncated"
    assert refused(decoder, sounds.overstated_mp3(1.04, seconds=12)) == "truncated"
    assert facts(decoder, sounds.overstated_mp3(1.01, seconds=12)).duration == pytest.approx(12, abs=0.1)


def test_a_variable_rate_without_a_count_is_no_sign(decoder: Decoder) -> None:
    """FFmpeg guesses such a duration from the first frames, and is wrong by half."""
    import av

    bare = (("write_xing", "0"), ("id3v2_version", "0"))
    data = song("mp3", 8, kbits=32, muxer=bare) + song("mp3", 16, kbits=256, muxer=bare)
    with av.open(io.BytesIO(data), "r") as container:
        assert container.duration is not None
        assert abs(container.duration / 1e6 - 24) > 3
    assert facts(decoder, data).duration == pytest.approx(24, abs=0.3)


def test_an_aac_says_nothing_of_its_length(decoder: Decoder) -> None:
    assert facts(decoder, sounds.truncated("aac", 0.5)).duration == pytest.approx(2, abs=0.1)


def test_an_aiff_with_fewer_samples_than_it_says(decoder: Decoder) -> None:
    data = bytearray(song("aiff", 4))
    place = data.index(b"COMM") + 10
    struct.pack_into(">I", data, place, 5 * 44_100)
    assert refused(decoder, bytes(data)) == "truncated"


def test_a_little_less_is_whole(decoder: Decoder) -> None:
    for kind in ("wav", "aiff", "mp3", "flac"):
        whole = song(kind, 10)
        assert facts(decoder, whole[: len(whole) * 99 // 100]).duration == pytest.approx(9.9, abs=0.1)


def test_a_hundred_minutes(decoder: Decoder) -> None:
    """A mix by a disc jockey, 83,000 frames."""
    piece = song("mp3", 10, rate=8_000, kbits=8, muxer=(("write_xing", "0"), ("id3v2_version", "0")))
    found = facts(decoder, piece * 595)
    assert found.duration == pytest.approx(6000, rel=0.02)


def test_longer_than_the_processor_time_that_is_allowed() -> None:
    piece = song("mp3", 10, rate=8_000, kbits=8, muxer=(("write_xing", "0"), ("id3v2_version", "0")))
    with Decoder(limits=DecoderLimits(cpu_seconds=0.02)) as decoder, pytest.raises(ContentRejected) as caught:
        facts(decoder, piece * 595)
    assert caught.value.code == "decoder_timeout"


# ── tags ──────────────────────────────────────────────────────────────────────────────────────────────────────

SAID: dict[str, Any] = {
    "title": "Jóga (live)", "artist": "Björk", "albumartist": "Björk & 友達", "album": "Homogenic",
    "date": "1997-09-22", "track": "3/12", "disc": "1/2", "genre": "Art Pop", "compilation": True,
}  # fmt: skip
READ = AudioTags(
    title="Jóga (live)", artist="Björk", albumartist="Björk & 友達", album="Homogenic", date="1997-09-22", year="1997",
    track=3, tracks=12, disc=1, discs=2, genre="Art Pop", compilation=True,
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_comes_back(decoder: Decoder, kind: Kind) -> None:
    assert tags(decoder, song(kind, **SAID)) == READ


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", [key for key in SAID if key != "compilation"])
def test_each_field_alone(decoder: Decoder, kind: Kind, key: str) -> None:
    given = {key: SAID[key]}
    whole = asdict(READ)
    names = {"track": ("track", "tracks"), "disc": ("disc", "discs"), "date": ("date", "year")}.get(key, (key,))
    assert tags(decoder, song(kind, **given)) == AudioTags(**{name: whole[name] for name in names})


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-be", "utf-8"])
def test_encodings_of_id3(decoder: Decoder, version: int, encoding: Any) -> None:
    frames = [
        id3_text("TIT2", "Jóga", encoding),
        id3_text("TPE1", "Björk\0", encoding),
        id3_text("TRCK", "3", encoding),
    ]
    assert tags(decoder, with_id3(song("mp3"), frames, version)) == AudioTags(title="Jóga", artist="Björk", track=3)


def test_id3_of_1998(decoder: Decoder) -> None:
    frames = [
        id3_text("TT2", "Jóga", "latin-1"),
        id3_text("TRK", "3/12", "latin-1"),
        id3_text("TYE", "1997", "latin-1"),
    ]
    picture = ("PIC", b"\0JPG\x03\0" + media.still_cover())
    found = facts(decoder, with_id3(song("mp3"), [*frames, picture], 2))
    assert found.tags == AudioTags(title="Jóga", track=3, tracks=12, date="1997", year="1997")
    assert found.cover


def test_id3_with_zeros_put_in(decoder: Decoder) -> None:
    frames = [id3_text("TIT2", "Jóga", "utf-16"), id3_picture(media.still_cover())]
    data = with_id3(song("mp3"), frames, flags=0x80)
    assert tags(decoder, data).title == "Jóga"
    assert embedded_cover(decoder, of(data)) == embedded_cover(decoder, of(song("mp3", cover=media.still_cover())))


def test_id3_with_plain_sizes_in_the_newest_version(decoder: Decoder) -> None:
    """Old versions of iTunes wrote them."""
    data = bytearray(with_id3(song("mp3"), [id3_text("TALB", "A" * 200), id3_text("TIT2", "Jóga")], 3))
    data[3] = 4
    assert tags(decoder, bytes(data)) == AudioTags(album="A" * 200, title="Jóga")


def test_id3_packed_and_reasonable(decoder: Decoder) -> None:
    name, content = id3_text("TIT2", "Jóga")
    packed = [(name, struct.pack(">I", len(content)) + zlib.compress(content))]
    assert tags(decoder, with_id3(song("mp3"), packed, frame_flags=0x80)).title == "Jóga"


def test_id3_of_the_first_version_fills_gaps(decoder: Decoder) -> None:
    old = b"TAG" + b"Old".ljust(30, b"\0") + "Björk".encode("latin-1").ljust(30, b"\0") + bytes(30) + b"1997"
    old += bytes(29) + b"\x03\x11"
    assert tags(decoder, song("mp3") + old) == AudioTags(
        title="Old", artist="Björk", date="1997", year="1997", track=3, genre="Rock"
    )
    assert tags(decoder, with_id3(song("mp3"), [id3_text("TIT2", "New")]) + old).title == "New"


@pytest.mark.parametrize("kind", ["mp3", "aac"])
@pytest.mark.parametrize("behind", [b"", b"TAG" + bytes(125)])
def test_ape(decoder: Decoder, kind: Kind, behind: bytes) -> None:
    items = {
        "Title": "Jóga", "Artist": "Björk\0Dagur", "Album Artist": "Björk", "Album": "Homogenic", "Year": "1997",
        "Track": "3/12", "Disc": "1/2", "Genre": "Art Pop", "Compilation": "1",
    }  # fmt: skip
    body = b"".join(
        struct.pack("<II", len(value.encode()), 0) + key.encode() + b"\0" + value.encode()
        for key, value in items.items()
    )
    cover = b"front.jpg\0" + media.still_cover()
    body += struct.pack("<II", len(cover), 2) + b"Cover Art (Front)\0" + cover
    end = struct.pack("<8sIIII8x", b"APETAGEX", 2000, len(body) + 32, len(items) + 1, 0x80000000)
    head = struct.pack("<8sIIII8x", b"APETAGEX", 2000, len(body) + 32, len(items) + 1, 0xA0000000)
    found = facts(decoder, song(kind) + head + body + end + behind)
    assert found.cover
    assert found.tags == AudioTags(
        title="Jóga", artist="Björk, Dagur", albumartist="Björk", album="Homogenic", date="1997", year="1997", track=3,
        tracks=12, disc=1, discs=2, genre="Art Pop" if not behind else found.tags.genre, compilation=True,
    )  # fmt: skip
    assert found.duration == pytest.approx(2, abs=0.06)


def test_several_values(decoder: Decoder) -> None:
    frames = [id3_text("TPE1", "Björk\0Dagur"), id3_text("TCON", "Pop\0(17)"), ("TXXX", b"\3ARTISTS\0Someone else")]
    found = tags(decoder, with_id3(song("mp3"), frames, 4))
    assert (found.artist, found.genre) == ("Björk, Dagur", "Pop, Rock")


def test_names_that_people_made_up(decoder: Decoder) -> None:
    for description in ("ALBUMARTIST", "Album Artist"):
        for encoding in ("latin-1", "utf-16"):
            name, content = id3_text("TXXX", f"{description}\0Björk", encoding)
            if encoding == "utf-16":
                content = b"\1" + description.encode("utf-16") + b"\0\0" + "Björk".encode("utf-16")
            assert tags(decoder, with_id3(song("mp3"), [(name, content)])).albumartist == "Björk"


def test_names_that_only_riff_has(decoder: Decoder) -> None:
    body = b"INFO"
    for name, value in ((b"INAM", "Jóga".encode("cp1252")), (b"ITRK", b"3/12"), (b"IART", b"Bj\xc3\xb6rk\0\0")):
        body += name + struct.pack("<I", len(value)) + value + bytes(len(value) % 2)
    data = song("wav") + b"LIST" + struct.pack("<I", len(body)) + body
    assert tags(decoder, data) == AudioTags(title="Jóga", artist="Björk", track=3, tracks=12)


@pytest.mark.parametrize("track", ["0", "0/0", "-3", "three", "99999", "99999/99999", "9" * 5000, "A1", "", "1.5", "³"])
@pytest.mark.parametrize("kind", ["mp3", "flac"])
def test_absurd_numbers_are_dropped(decoder: Decoder, kind: Kind, track: str) -> None:
    found = facts(decoder, song(kind, track=track, disc=track, title="Jóga")).tags
    assert found == AudioTags(title="Jóga")


@pytest.mark.parametrize(
    ("date", "year"), [("1997", "1997"), ("22.9.1997", "1997"), ("97", None), ("19970922", None), ("0000", None)]
)
def test_years(decoder: Decoder, date: str, year: str | None) -> None:
    found = tags(decoder, song("flac", date=date))
    assert (found.date, found.year) == (date, year)


def test_text_is_for_people(decoder: Decoder) -> None:
    found = tags(decoder, song("flac", title="\u202eJo\u0301ga\x1b[31m \n\t live\u200b", artist="A" * 5000))
    assert (found.title, found.artist) == ("J\u00f3ga[31m live", "A" * 200)


def test_a_part_of_the_tags_is_damaged(decoder: Decoder) -> None:
    data = bytearray(song("m4a", title="Jóga", track="3/12"))
    place = data.index(b"trkn")
    struct.pack_into(">I", data, place - 4, 8 + 18)
    struct.pack_into(">I", data, place + 4, 18)  # its numbers no longer fit into it
    data[place + 22 : place + 28] = b"\0\0\0\6zz"
    found = facts(decoder, bytes(data))
    assert found.warnings == ("tags_repaired",)
    assert found.tags == AudioTags(title="Jóga")


def test_nothing_of_the_tags_can_be_read(decoder: Decoder) -> None:
    data = bytearray(with_id3(song("mp3"), [id3_text("TIT2", "Jóga")]))
    data[3] = 7
    found = facts(decoder, bytes(data))
    assert (found.tags, found.warnings) == (AudioTags(), ("tags_unreadable",))


# ── covers ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", KINDS)
def test_covers(decoder: Decoder, kind: Kind) -> None:
    data = song(kind, cover=media.still_cover((640, 480)), **SAID)
    found = facts(decoder, data)
    assert (found.cover, found.warnings, found.tags) == (True, (), READ)
    pictures = embedded_cover(decoder, of(data), (50, 150))
    assert pictures is not None
    assert (pictures.width, pictures.height, set(pictures.small)) == (640, 480, {50, 150})


def test_no_cover(decoder: Decoder) -> None:
    assert embedded_cover(decoder, of(song("mp3"))) is None


def test_the_front_is_preferred(decoder: Decoder) -> None:
    sizes = {1: (32, 32), 4: (200, 100), 0: (210, 100), 3: (220, 100)}
    pictures = [id3_picture(media.still_cover(size), role) for role, size in sizes.items()]
    for count, width in ((1, 32), (2, 200), (3, 210), (4, 220)):
        found = embedded_cover(decoder, of(with_id3(song("mp3"), pictures[:count])))
        assert found is not None
        assert found.width == width


def test_a_broken_cover_is_no_reason_to_refuse_the_song(decoder: Decoder) -> None:
    data = with_id3(song("mp3"), [id3_picture(media.cut(media.still_cover(), 0.5))])
    assert facts(decoder, data).cover
    with pytest.raises(ContentRejected) as caught:
        embedded_cover(decoder, of(data))
    assert caught.value.code in ("truncated", "picture_damaged")
    whole = with_id3(
        song("mp3"), [id3_picture(media.cut(media.still_cover(), 0.5)), id3_picture(media.still_cover(), 4)]
    )
    assert embedded_cover(decoder, of(whole)) is not None


def test_what_is_no_picture_is_no_cover(decoder: Decoder) -> None:
    data = with_id3(song("mp3"), [id3_picture(b"http://example.org/cover.jpg", mime="-->")])
    assert not facts(decoder, data).cover
    assert embedded_cover(decoder, of(data)) is None


# ── made to do harm ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["mp3", "m4a", "flac"])
def test_a_cover_of_200_megabytes(kind: Literal["mp3", "m4a", "flac"], tmp_path: Path) -> None:
    """In a child that could not hold it."""
    path = tmp_path / "song"
    sounds.huge_cover(path, kind)
    assert path.stat().st_size > 200 << 20
    with Decoder(limits=DecoderLimits(memory=CRAMPED)) as decoder, flat():
        found = probe_audio(decoder, at(path))
        assert (found.kind, found.cover, found.warnings) == (kind, False, ("cover_too_large",))
        assert found.tags == AudioTags(title="Behind")
        assert embedded_cover(decoder, at(path)) is None


CRAMPED = 384 << 20
"""Address space in bytes. Programs and libraries take about 260 MB of it."""


@contextlib.contextmanager
def flat() -> Iterator[None]:
    """This process keeps little of what it hands on."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["TIT2", "COMM", "APIC"])
def test_a_tag_that_unpacks_to_300_megabytes(name: str) -> None:
    data = sounds.compressed_tag(name=name)
    assert len(data) < 400_000
    with Decoder(limits=DecoderLimits(memory=CRAMPED)) as decoder, flat():
        if name == "TIT2":
            assert refused(decoder, data) == "tags_too_large"
        else:  # is not unpacked, or not further than a picture may be large
            found = facts(decoder, data)
            assert found.tags == AudioTags()
            assert found.warnings == (("cover_too_large",) if name == "APIC" else ())


@pytest.mark.parametrize("name", ["PRIV", "GEOB", "TIT2"])
def test_a_tag_block_of_more_than_16_megabytes(decoder: Decoder, name: str) -> None:
    assert refused(decoder, sounds.large_tag(name=name)) == "tags_too_large"
    assert facts(decoder, sounds.large_tag(15 << 20, name=name)).tags.title == "Behind"


def test_comments_of_more_than_16_megabytes(decoder: Decoder) -> None:
    comment = b"\0\0\0\0\1\0\0\0" + struct.pack("<I", 17 << 20) + bytes(17 << 20)
    pages, sequence = [], 1
    for start in range(0, len(comment), 255 * 255):
        body = comment[start : start + 255 * 255]
        table = b"\xff" * (len(body) // 255) + (bytes((len(body) % 255,)) if len(body) % 255 else b"")
        pages.append(struct.pack("<4sBBqIIIB", b"OggS", 0, 0, -1, 0, sequence, 0, len(table)) + table + body)
        sequence += 1
    data = song("ogg")
    first = data[: data.index(b"OggS", 4)]
    serial = first[14:18]
    made = first + b"".join(page[:14] + serial + page[18:] for page in pages) + data
    assert refused(decoder, made) == "tags_too_large"


def test_half_a_million_fields(decoder: Decoder) -> None:
    comments = b"\2\0\0\0A=" * 500_000
    block = bytes(4) + struct.pack("<I", 500_000) + comments
    data = song("flac", title="Jóga")
    made = data[:42] + b"\4" + len(block).to_bytes(3, "big") + block + data[42:]
    assert facts(decoder, made).tags.title == "Jóga"


def test_it_opens_nothing_else(decoder: Decoder, tmp_path: Path) -> None:
    other = tmp_path / "other.mp3"
    other.write_bytes(song("mp3"))
    for text in (media.ffconcat(str(other)), media.hls(f"file://{other}"), sounds.playlist(str(other))):
        assert refused(decoder, text) == "not_audio"
        # Frames make it a sound file, and nothing of the text is looked at.
        assert facts(decoder, text + song("mp3", 1)).duration == pytest.approx(1, abs=0.06)


BATCH = """
import io, json, os, pickle, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
import av
from stagedoor.content.decoding.child import audio, common
av.logging.set_level(None)
configuration = {"max_side": 8192, "max_pixels": 40_000_000, "picture_side": 3840}
for data in pickle.load(sys.stdin.buffer):
    with open(os.memfd_create("song"), "w+b", buffering=0) as file:
        file.write(data)
        said = []
        for operation in (audio.probe_audio, audio.embedded_cover):
            try:
                said.append(operation(common.Input(file.fileno(), len(data)), {"sizes": [50]}, configuration)[0])
            except common.RejectedError as error:
                said.append(error.code)
        print(json.dumps(said), flush=True)
"""
"""The child's operations on many files, without the walls. The pool starts a new child after each refusal."""


def outcomes(files: list[bytes]) -> list[str]:
    """A code each, or ``facts``; what is no refusal ends the batch."""
    done = subprocess.run([sys.executable, "-c", BATCH], input=pickle.dumps(files), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    found = []
    for line in done.stdout.splitlines():
        facts, cover = json.loads(line)
        if isinstance(facts, str):
            assert facts in CODES, facts
            assert isinstance(cover, dict) or cover in ALL_CODES, cover
            found.append(facts)
        else:
            assert 0 < probe_audio(Lying(facts), of(b"")).duration < 100
            assert isinstance(cover, dict) or cover in ALL_CODES, cover
            found.append("facts")
    assert len(found) == len(files)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_cut_anywhere(kind: Kind) -> None:
    data = song(kind, 1, cover=media.still_cover(), **SAID)
    found = outcomes([data[: len(data) * part // 30] for part in range(30)])
    assert found[0] == "not_audio"
    assert set(found[1:15]) <= ({"facts", "not_audio", "truncated"} if kind == "aac" else {"truncated", "unreadable"})


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_anywhere(kind: Kind) -> None:
    data = song(kind, 1, cover=media.still_cover(), **SAID)
    rng = random.Random(kind)
    files = []
    for number in range(200):
        damaged = bytearray(data)
        # Every other one near the start, where the structure is.
        damaged[rng.randrange(2048 if number % 2 else len(data))] ^= rng.randrange(1, 256)
        files.append(bytes(damaged))
    # A page of Ogg with a wrong checksum is lost, and most of a second is head.
    assert outcomes(files).count("facts") > (0 if kind in ("ogg", "opus") else 100)


def test_damage_in_a_real_child(decoder: Decoder) -> None:
    for kind in KINDS:
        damaged = bytearray(song(kind, 1, cover=media.still_cover(), **SAID))
        damaged[len(damaged) * 2 // 3] ^= 0x55
        try:
            code = facts(decoder, bytes(damaged)).kind
        except ContentRejected as error:
            code = error.code
        assert code in {*CODES, *KINDS}


# ── what a child says is checked ──────────────────────────────────────────────────────────────────────────────


class Lying(Decoder):
    """Answers what it was told to."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__()
        self.document = document

    def run(self, operation: str, source: Source, arguments: Any = None) -> Answer:
        return Answer(document=self.document, blobs=[])


SOUND: dict[str, Any] = {
    "kind": "mp3", "duration": 2.0, "codec": "mp3", "bitrate": 128_000, "sample_rate": 44_100, "channels": 2,
    "bits": None, "tags": {}, "cover": False, "warnings": [],
}  # fmt: skip


def test_a_child_that_speaks_true() -> None:
    assert probe_audio(Lying(SOUND), of(b"")).kind == "mp3"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kind", "exe"), ("duration", 0), ("duration", float("nan")), ("duration", "2"), ("codec", "../x"),
        ("bitrate", -1), ("sample_rate", 0), ("channels", 1 << 40), ("bits", 0), ("tags", []),
        ("tags", {"title": 5}), ("cover", 1), ("warnings", "none"), ("warnings", ["rm"]),
    ],
)  # fmt: skip
def test_a_child_that_lies(key: str, value: Any) -> None:
    with pytest.raises(ContentRejected) as caught:
        probe_audio(Lying({**SOUND, key: value}), of(b""))
    assert caught.value.code == "decoder_crashed"


def test_a_child_that_gives_no_pictures() -> None:
    with pytest.raises(ContentRejected):
        embedded_cover(Lying({"kind": "jpg"}), of(b""))
