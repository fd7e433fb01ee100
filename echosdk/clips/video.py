"""Reading and writing videos, at any fsspec URL.

Frames are uint8 `t h w` (grey) or `t h w 3` (red, green, blue). Four formats are written:

| format | codec                | levels                      | for                                                  |
|--------|----------------------|-----------------------------|------------------------------------------------------|
| `mp4`  | H.264, yuv420p       | close (see `_X264`)         | looking at: plays in every browser; even sizes only  |
| `mkv`  | FFV1                 | exact                       | computing with                                       |
| `avi`  | MJPEG, best quality  | within a few                | layouts that ask for Motion JPEG                     |
| `npy`  | none                 | exact                       | computing with, without a decoder; holds no fps      |

The same frames give the same bytes, on every run and whatever the processor: encoders run single-threaded, and
containers hold neither a date nor their writer's version. Only another version of FFmpeg may change them.
"""

from __future__ import annotations

import io
import math
import os
import posixpath
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, Literal, NamedTuple, get_args

import av
import fsspec
import numpy as np
from av.codec.context import Flags
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray

from echosdk.errors import DataError

Frames = NDArray[np.uint8]
VideoFormat = Literal["mp4", "mkv", "avi", "npy"]
VIDEO_FORMATS: tuple[VideoFormat, ...] = get_args(VideoFormat)

GREY_TOLERANCE = 8
"""Up to how many levels the channels of a pixel may differ and be taken for a trace of JPEG, not for a colour."""

# Only files that hold their own frames: a playlist must not make the decoder open other files or URLs.
_CONTAINERS = "avi,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mpeg,mpegts,mpegvideo,asf,gif"

# JPEG knows only this one; and FFmpeg's BT.709 turns grey into a faint green (chroma 127).
_MATRIX = Colorspace.ITU601

# Unless x264 is told to be independent of the processor, its macroblock tree gives other bytes on every run, even with
# one thread. Without that tree and without B-frames speckle is kept better.
_X264 = {"crf": "18", "preset": "medium", "x264-params": "cpu-independent=1:mbtree=0:bframes=0"}


class VideoInfo(NamedTuple):
    """What a video is, counted frame by frame."""

    num_frames: int
    fps: float
    height: int
    width: int


class _Encoding(NamedTuple):
    container: str
    codec: str
    grey: str
    colour: str
    options: dict[str, str]


_ENCODINGS: dict[str, _Encoding] = {
    "mp4": _Encoding("mp4", "libx264", "yuv420p", "yuv420p", _X264),
    "mkv": _Encoding("matroska", "ffv1", "gray", "bgr0", {"level": "3", "g": "1"}),
    "avi": _Encoding("avi", "mjpeg", "yuvj420p", "yuvj420p", {"qmin": "1", "qmax": "1"}),
}


def read_video(url: str, *, grey: bool | None = None) -> tuple[Frames, float]:
    """Read all frames of a video, and its frames per second.

    With `grey` the frames are `t h w`, the mean of the channels; without, `t h w 3`. Where it is left open they are
    grey if nowhere in the video two channels differ by more than `GREY_TOLERANCE`. Raises DataError if the file is
    missing, empty, cut short, or no video.
    """
    return decode_video(read_bytes(url), grey=grey, name=url)


def decode_video(data: bytes, *, grey: bool | None = None, name: str = "video") -> tuple[Frames, float]:
    """Decode what `read_video` reads; `name` is what errors call it."""
    greys: list[Frames] = []
    colours: list[Frames] = []
    plain = True
    with _opened(data, name) as stream:
        fps = _fps(stream, name)
        for frame in _decoded(stream, name):
            if frame.format.name == "gray":
                image = np.repeat(frame.to_ndarray()[..., None], 3, axis=-1)
            else:
                image = frame.to_ndarray(format="rgb24")
            if grey is None and plain:
                plain = int(np.ptp(image, axis=-1).max()) <= GREY_TOLERANCE
            if grey is not False:
                greys.append(to_grey(image))
            if not grey:
                colours.append(image)
    return np.stack(greys if grey or (grey is None and plain) else colours), fps


def probe_video(url: str) -> VideoInfo:
    """Count a video's frames by decoding them, since what a container says about itself need not be true."""
    with _opened(read_bytes(url), url) as stream:
        fps = _fps(stream, url)
        sizes = [(frame.height, frame.width) for frame in _decoded(stream, url)]
    return VideoInfo(len(sizes), fps, *sizes[0])


def video_fps(url: str) -> float:
    """Return the frames per second that a video's container states, without decoding it."""
    with _opened(read_bytes(url), url) as stream:
        return _fps(stream, url)


def write_video(url: str, frames: Frames, fps: float, format: VideoFormat | None = None) -> None:
    """Write a video in the format that the URL's suffix names; the file appears whole or not at all."""
    suffix = posixpath.splitext(url)[1].removeprefix(".").lower()
    data = encode_video(frames, fps, format or _format(suffix, url))
    fs, path = fsspec.core.url_to_fs(url)
    if not isinstance(fs, LocalFileSystem):
        fs.pipe_file(path, data)  # object stores upload whole
        return
    part = f"{path}.{uuid.uuid4().hex[:8]}.part"
    try:
        fs.pipe_file(part, data)
        os.replace(part, path)
    except OSError as error:
        raise DataError(f"{url}: cannot be written: {error.strerror or error}; give a folder that exists") from None
    finally:
        if os.path.exists(part):
            os.remove(part)


def encode_video(frames: Frames, fps: float, format: VideoFormat = "mp4") -> bytes:
    """Encode frames uint8 `t h w` or `t h w 3`; black stays 0 and white 255 (full range).

    Raises DataError for frames of another type or shape, and for an mp4 of odd height or width: H.264 as browsers play
    it halves the colour's resolution, and to crop or pad would change the content.
    """
    check_frames(frames)
    check_frame_size(format, *frames.shape[1:3])
    rate = _rate(fps)
    if format == "npy":
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(frames), allow_pickle=False)
        return buffer.getvalue()
    try:
        return _encoded(frames, rate, _ENCODINGS[format])
    except av.FFmpegError as error:
        raise DataError(
            f"{format}: frames of shape {frames.shape} cannot be encoded: {error.strerror}; use npy"
        ) from None


def check_frames(frames: Frames) -> None:
    """Raise DataError unless these are frames: uint8 `t h w` or `t h w 3`, at least one."""
    if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8:
        kind = getattr(frames, "dtype", type(frames).__name__)
        raise DataError(f"frames must be uint8, got {kind}; turn 16-bit frames with window_to_uint8 first")
    if frames.ndim not in (3, 4) or (frames.ndim == 4 and frames.shape[-1] != 3) or 0 in frames.shape:
        raise DataError(f"frames must be t h w or t h w 3 with at least one frame, got shape {frames.shape}")


def check_frame_size(format: VideoFormat, height: int, width: int) -> None:
    """Raise DataError where frames of this size cannot be written in this format."""
    _format(format, "video")
    if format == "mp4" and (height % 2 or width % 2):
        raise DataError(
            f"mp4: frames of {height} x {width} have an odd side, which browsers cannot play; choose mkv, avi or npy"
        )


def resample_indices(num_frames: int, fps: float, target_fps: float) -> NDArray[np.int64]:
    """Return, for each frame of the resampled video, the original one that is nearest in time (in a tie the earlier).

    The duration is kept: `round(num_frames * target_fps / fps)` frames, at least one.
    """
    if num_frames < 1:
        raise DataError(f"cannot resample {num_frames} frames; give at least one")
    for rate in (fps, target_fps):
        if not (math.isfinite(rate) and rate > 0):
            raise DataError(f"cannot resample from {fps} to {target_fps} fps; give positive numbers")
    count = max(1, round(num_frames * target_fps / fps))
    position = np.arange(count) * (fps / target_fps)
    nearest: NDArray[np.int64] = np.ceil(position - 0.5 - 1e-9).astype(np.int64)
    return nearest.clip(0, num_frames - 1)


def to_grey(frames: Frames) -> Frames:
    """Average the channels of `... 3`, rounded to the nearest level; `t h w` is returned as it is."""
    if frames.shape[-1] != 3:
        return frames
    grey: Frames = ((frames.sum(axis=-1, dtype=np.uint16) + 1) // 3).astype(np.uint8)
    return grey


def window_to_uint8(frames: NDArray[Any], window: tuple[float, float]) -> Frames:
    """Show `low` as black and `high` as white; what lies outside the window is cut off."""
    low, high = window
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise DataError(
            f"window {window}: low must be under high; give the levels that are shown as black and as white"
        )
    share = (frames.astype(np.float32) - low) / (high - low)
    shown: Frames = np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)
    return shown


def read_bytes(url: str) -> bytes:
    """Read a whole file at any fsspec URL; raises DataError where that is not possible."""
    try:
        with fsspec.open(url, "rb") as file:
            data: bytes = file.read()
    except FileNotFoundError:
        raise DataError(f"{url}: no such file; check the path") from None
    except (OSError, ImportError, ValueError) as error:
        raise DataError(f"{url}: cannot be read: {_line(error)}; check the path and your rights to it") from None
    return data


def _format(name: str, where: str) -> VideoFormat:
    for known in VIDEO_FORMATS:
        if name == known:
            return known
    raise DataError(f"{where}: unknown video format {name!r}; choose from {', '.join(VIDEO_FORMATS)}")


def _rate(fps: float) -> Fraction:
    rate = Fraction(fps).limit_denominator(1001) if math.isfinite(fps) and fps > 0 else Fraction(0)
    if not rate:
        raise DataError(f"fps must be a positive number, got {fps}")
    return rate


def _encoded(frames: Frames, rate: Fraction, encoding: _Encoding) -> bytes:
    buffer = io.BytesIO()
    grey = frames.ndim == 3
    pixels = encoding.grey if grey else encoding.colour
    subsampled = "420" in pixels
    with av.open(buffer, "w", format=encoding.container, options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(encoding.codec, rate=rate, options=encoding.options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels
        context = stream.codec_context
        context.thread_count = 1
        context.flags |= Flags.bitexact
        if subsampled:
            context.color_range = ColorRange.JPEG
            context.colorspace = _MATRIX
        if encoding.codec == "libx264":
            context.color_primaries = ColorPrimaries.BT709
            context.color_trc = ColorTrc.BT709
        for number, image in enumerate(np.ascontiguousarray(frames)):
            frame = av.VideoFrame.from_ndarray(image, format="gray" if grey else "rgb24")
            if subsampled:
                frame.color_range = ColorRange.JPEG
                frame = frame.reformat(format="yuv420p", dst_colorspace=_MATRIX, dst_color_range=ColorRange.JPEG)
                frame.color_range = ColorRange.JPEG  # on stream and frame: else levels shift to 16..235
            elif not grey:
                frame = frame.reformat(format=pixels)
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


@contextmanager
def _opened(data: bytes, name: str) -> Iterator[av.VideoStream]:
    if not data:
        raise DataError(f"{name}: the file is empty; copy it again")
    stated = _stated_length(data)
    if stated > len(data):
        raise DataError(f"{name}: the video is cut short ({len(data)} of {stated} bytes); copy it again")
    try:
        container = av.open(io.BytesIO(data), options={"format_whitelist": _CONTAINERS})
    except (av.FFmpegError, ValueError):
        raise DataError(f"{name}: not a video that can be read; give an .avi, .mp4 or .mkv file") from None
    with container:
        if not container.streams.video:
            raise DataError(f"{name}: the file holds no video; give an .avi, .mp4 or .mkv file")
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        yield stream


def _fps(stream: av.VideoStream, name: str) -> float:
    rate = stream.average_rate or stream.guessed_rate
    if not rate or rate <= 0:
        raise DataError(f"{name}: the video states no frame rate; write it again with one")
    return float(rate)


def _decoded(stream: av.VideoStream, name: str) -> Iterator[av.VideoFrame]:
    """Yield the frames; raise DataError for a damaged one, for frames of two sizes, and where there are none."""
    size = None
    number = 0
    try:
        for number, frame in enumerate(stream.container.decode(stream), start=1):
            size = size or (frame.height, frame.width)
            if frame.is_corrupt:
                raise DataError(f"{name}: frame {number} is damaged; copy the file again")
            if (frame.height, frame.width) != size:
                sizes = f"{frame.height} x {frame.width}, the first {size[0]} x {size[1]}"
                raise DataError(f"{name}: frame {number} is {sizes}; write the video with frames of one size")
            yield frame
    except (av.FFmpegError, ValueError):
        raise DataError(f"{name}: the video breaks off after {number} frames; copy it again") from None
    if not number:
        raise DataError(f"{name}: the video holds no frame that can be decoded; copy it again")


def _stated_length(data: bytes) -> int:
    """Return how long an AVI, MP4 or Matroska file says it is (0 where it does not), by its outermost boxes."""
    if data[:4] == b"RIFF":
        position = 0
        while data[position : position + 4] == b"RIFF":  # files above 1 GB hold several
            size = int.from_bytes(data[position + 4 : position + 8], "little")
            if size in (0, 0xFFFFFFFF):  # a writer that could not go back to fill it in
                return 0
            position += 8 + size
        return position
    if data[4:8] == b"ftyp":
        position = 0
        while position + 8 <= len(data):
            size = int.from_bytes(data[position : position + 4], "big")
            if size == 1:
                size = int.from_bytes(data[position + 8 : position + 16], "big")
            if size < 8:  # 0: to the end of the file
                return 0
            position += size
        return position
    if data[:4] == b"\x1a\x45\xdf\xa3":
        head, width = _ebml_size(data, 4)
        segment = 4 + width + (head or 0)
        size_, width = _ebml_size(data, segment + 4)
        return 0 if size_ is None else segment + 4 + width + size_
    return 0


def _ebml_size(data: bytes, position: int) -> tuple[int | None, int]:
    """Return the number at a position of a Matroska file (None: unknown) and how many bytes it takes."""
    first = data[position] if position < len(data) else 0
    width = 9 - first.bit_length()
    bits = 7 * width
    value = int.from_bytes(data[position : position + width], "big") & ((1 << bits) - 1)
    return (None if value == (1 << bits) - 1 or not first else value), width


def _line(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())
