"""Still pictures for a page: a frame, and a video's course as one picture, which shows also in print."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echosdk.clips.video import decode_video
from echosdk.report.page import Html, element, section
from echosdk.report.preview import spread

MAX_COURSES = 4

Frame = NDArray[np.uint8]


def picture(frame: Frame, said: str) -> Html:
    """Return a frame `h w` or `h w 3` with its caption, which is its text equivalent too."""
    url = f"data:image/png;base64,{base64.b64encode(png(frame)).decode()}"
    return element("figure", element("img", src=url, alt=said), element("figcaption", said))


def courses_section(
    samples: Sequence[Mapping[str, Any]],
    labels: Sequence[Mapping[str, Any]],
    read_video: Callable[[str], bytes],
    extension: str,
) -> Html:
    """Return what the middle column of some videos does over time."""
    shown = []
    for sample in spread(samples, labels, MAX_COURSES):
        data = read_video(sample["key"])
        frames = np.load(io.BytesIO(data), allow_pickle=False) if extension == "npy" else decode_video(data)[0]
        seconds = len(frames) / sample["fps"]
        shown.append(picture(course(frames), f"{sample['key']}: {len(frames)} frames, {seconds:.3g} s"))
    text = (
        "The middle column of the picture, frame after frame from left to right. Motion that comes again draws waves, "
        "flicker draws upright stripes, and where two windows of a long video do not fit there is an upright edge."
    )
    return section("Through time", element("p", text), element("div", *shown, class_="courses"))


def course(frames: Frame) -> Frame:
    """Return the middle column of frames `t h w` or `t h w 3` side by side: `h t` or `h t 3`."""
    return np.ascontiguousarray(frames[:, :, frames.shape[2] // 2].swapaxes(0, 1))


def png(frame: Frame) -> bytes:
    """Return a frame uint8 `h w` or `h w 3` as a PNG file."""
    height, width = frame.shape[:2]
    colour = 2 if frame.ndim == 3 else 0
    lines = b"".join(b"\0" + np.ascontiguousarray(line).tobytes() for line in frame)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
