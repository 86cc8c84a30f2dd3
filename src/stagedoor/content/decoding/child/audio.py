"""Sound files: what they are, and their covers, by PyAV and tinytag."""

from __future__ import annotations

import io
import re
from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from . import tags
from .common import Answer, Input, RejectedError
from .image import render_cover
from .sound import Layout, Splice, examine, missing

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

_CODECS = {
    "mp3": ("mp3",),
    "aac": ("aac",),
    "m4a": ("aac", "alac", "flac", "mp3", "opus"),
    "flac": ("flac",),
    "ogg": ("vorbis", "flac"),
    "opus": ("opus",),
}
"""By kind; WAV and AIFF hold any PCM."""
_PCM = (
    "pcm_alaw,pcm_mulaw,pcm_u8,pcm_s8,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,"
    "pcm_f32le,pcm_f32be,pcm_f64le,pcm_f64be"
)
# By the names of decoders, of which a codec may have several.
_DECODERS = "aac,alac,flac,mp3,mp3float,opus,libopus,vorbis," + _PCM
_LISTEN = 3.0
"""Seconds at the start and at the end that are decoded."""
_TAIL_BYTES = 16 << 20
_TAIL_PACKETS = 1000
_PACKET = 60.0
"""Seconds. No packet holds so much sound."""
_LONGEST = 1e6
"""Seconds. Nobody has the patience, so the file lies."""
_ROLES = {3: 0, 0: 1, 1: 9, 2: 9}
"""Front covers first, then what has no role; icons last."""


def _refuse_to_open(*_: object) -> Any:
    raise PermissionError("a media file may not refer to others")


def _open(layout: Layout) -> tuple[InputContainer, av.AudioStream]:
    """Open the sound of a file, with everything checked that can be checked before it is decoded."""
    import av

    options = {
        "format_whitelist": "mov,mp4" if layout.demuxer == "mov" else layout.demuxer,
        "codec_whitelist": _DECODERS,
        "protocol_whitelist": "",
        "max_streams": "100",
        "threads": "1",
    }
    if layout.pcm is not None:
        options["probesize"] = "65536"  # FFmpeg looks for other codings in it, for long
    try:
        container = av.open(
            layout.view, "r", format=layout.demuxer, options=options, metadata_errors="replace",
            buffer_size=1 << 17, io_open=_refuse_to_open,
        )  # fmt: skip
    except MemoryError:
        raise
    except av.FFmpegError:
        raise RejectedError("unreadable") from None
    shown_only = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    if any(not stream.disposition & shown_only for stream in container.streams.video):
        raise RejectedError("is_video" if layout.kind == "m4a" else "not_audio")
    if not container.streams.audio:
        raise RejectedError("not_audio")
    stream = container.streams.audio[0]
    context = stream.codec_context
    name = "" if context is None else context.codec.canonical_name
    known = _CODECS.get(layout.kind)
    if name not in known if known is not None else not name.startswith("pcm_"):
        raise RejectedError("unsupported_sound")
    context.thread_count = 1
    return container, stream


class _Listener:
    """Decodes packets, and counts what came of them."""

    def __init__(self, stream: av.AudioStream) -> None:
        self.stream = stream
        self.good = 0
        self.bad = 0
        self.seconds = 0.0
        self.shape: tuple[int, int] | None = None
        """Samples a second and channels."""

    def hear(self, packet: av.Packet[av.AudioStream] | None) -> None:
        """Decode a packet; ``None`` for what the decoder holds back."""
        import av

        try:
            frames: Iterable[av.AudioFrame] = (
                self.stream.codec_context.decode(None) if packet is None else packet.decode()
            )
        except MemoryError:
            raise
        except av.FFmpegError:
            self.bad += packet is not None
            return
        for frame in frames:
            self.good += 1
            self.seconds += frame.samples / max(1, frame.sample_rate)
            self.shape = self.shape or (frame.sample_rate, frame.layout.nb_channels)

    def judge(self) -> tuple[int, int]:
        """Single damaged packets are for those to hear who listen.

        Returns:
            Samples a second and channels.

        Raises:
            RejectedError: ``undecodable``.
        """
        if self.shape is None or self.bad > self.good:
            raise RejectedError("undecodable")
        return self.shape


def _packets(container: InputContainer, stream: av.AudioStream) -> Iterable[av.Packet[av.AudioStream]]:
    """All that can be read; where the file is too damaged to go on, it ends."""
    import av

    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except MemoryError:
        raise
    except av.FFmpegError:
        return


def _listen(container: InputContainer, stream: av.AudioStream) -> tuple[float, int, list[_Listener]]:
    """Read every packet, and decode the first and the last ones.

    Returns:
        Seconds and bytes in packets; who heard the start, and the end.
    """
    head, base = _Listener(stream), float(stream.time_base or 0)
    ticks = count = later = held = 0
    last: deque[av.Packet[av.AudioStream]] = deque()
    for packet in _packets(container, stream):
        # In the last page of a short Ogg file FFmpeg takes -64 for 4294967232.
        if 0 < (packet.duration or 0) * base < _PACKET:
            ticks += packet.duration or 0
        count += packet.size
        # By packets as well: in front of silence, decoders may hold back what they have.
        if head.seconds < _LISTEN and head.good + head.bad < _TAIL_PACKETS:
            head.hear(packet)
            continue
        later += 1
        last.append(packet)
        held += packet.size
        while len(last) > 1 and (
            (packet.pts or 0) - (last[0].pts or 0) > _LISTEN / (base or 1)
            or len(last) > _TAIL_PACKETS
            or held > _TAIL_BYTES
        ):
            held -= last.popleft().size
    if later:
        return ticks * base, count, [head, _hear_tail(stream, last)]
    head.hear(None)
    return ticks * base, count, [head]


def _hear_tail(stream: av.AudioStream, packets: Iterable[av.Packet[av.AudioStream]]) -> _Listener:
    stream.codec_context.flush_buffers()
    tail = _Listener(stream)
    for packet in packets:
        tail.hear(packet)
    tail.hear(None)
    return tail


def _listen_to_pcm(container: InputContainer, stream: av.AudioStream, seconds: float) -> list[_Listener]:
    """Decode the first and the last seconds of what has no packets of its own.

    Returns:
        Who heard the start, and the end.
    """
    import av

    head = _Listener(stream)
    for packet in _packets(container, stream):
        head.hear(packet)
        if head.seconds >= _LISTEN:
            break
    if seconds <= 2 * _LISTEN:
        return [head]
    try:
        container.seek(int((seconds - _LISTEN) * 1_000_000))
    except av.FFmpegError:
        raise RejectedError("undecodable") from None
    return [head, _hear_tail(stream, _packets(container, stream))]


def _bits(name: str, extradata: bytes | None) -> int | None:
    """Bits of a sample; ``None`` for a lossy coding."""
    data = extradata or b""
    if name == "flac" and len(data) >= 34:  # STREAMINFO
        return ((data[12] & 1) << 4 | data[13] >> 4) + 1
    if name == "alac" and len(data) >= 36:  # after 12 bytes of the atom's head: samples a frame, version, bits
        return data[17]
    found = re.fullmatch(r"pcm_[suf](\d+)\w*", name)
    return int(found[1]) if found else 8 if name.startswith("pcm_") else None


def probe_audio(source: Input, _: Mapping[str, Any], __: Mapping[str, Any]) -> Answer:
    """What a sound file is, after all of it has been read, and its start and its end have been decoded."""
    layout = examine(source)
    container, stream = _open(layout)
    with container:
        name = stream.codec_context.codec.canonical_name
        if layout.pcm is not None:
            size, seconds = layout.pcm
            listeners = _listen_to_pcm(container, stream, seconds)
        else:
            seconds, size, listeners = _listen(container, stream)
            promised = layout.promised
            if layout.kind == "m4a" and stream.duration and stream.time_base:
                promised = float(stream.duration * stream.time_base)
            if promised and missing(seconds, promised):
                raise RejectedError("truncated", percent=int(100 * seconds / promised))
            # The packets of an m4a have samples that its list of edits drops.
            seconds = min(seconds, promised) if promised and layout.kind == "m4a" else seconds
        (rate, channels), *_others = [listener.judge() for listener in listeners]
        bits = _bits(name, stream.codec_context.extradata)
    if not 0 < seconds < _LONGEST:
        raise RejectedError("unreadable")
    said = tags.said(layout.tags)
    return {
        "kind": layout.kind,
        "duration": seconds,
        "codec": name,
        "bitrate": round(size * 8 / seconds),
        "sample_rate": rate,
        "channels": channels,
        "bits": bits,
        "tags": said,
        "cover": bool(layout.tags.pictures),
        "warnings": sorted(layout.tags.warnings),
    }, []


def embedded_cover(source: Input, arguments: Mapping[str, Any], configuration: Mapping[str, Any]) -> Answer:
    """The facts and the JPEGs of `render_cover` from the best picture in a sound file; nothing when it has none."""
    refused: RejectedError | None = None
    pictures = sorted(examine(source).tags.pictures, key=lambda picture: _ROLES.get(picture.role, 2))
    for picture in pictures[:3]:
        try:
            return render_cover(Splice([picture.data]), arguments["sizes"], configuration)
        except RejectedError as error:
            refused = refused or error
    if refused is not None:
        raise refused
    return {}, []


def warm_up() -> None:
    """Use once what is loaded at its first use."""
    import av

    tags.warm_up()
    sound = bytes(20_000)
    head = b"RIFF" + (36 + len(sound)).to_bytes(4, "little") + b"WAVEfmt \x10\0\0\0\1\0\1\0"
    head += b"\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0data" + len(sound).to_bytes(4, "little")
    with av.open(io.BytesIO(head + sound), "r") as container:
        for frame in container.decode(audio=0):
            assert frame.layout.nb_channels == 1
