"""Real data in: videos, and what is known about them."""

from echosdk.clips.array import ArrayClip
from echosdk.clips.tracing import Traced, Tracing
from echosdk.clips.video import (
    VIDEO_FORMATS,
    VideoFormat,
    VideoInfo,
    check_frame_size,
    check_frames,
    decode_video,
    encode_video,
    probe_video,
    read_bytes,
    read_video,
    resample_indices,
    to_grey,
    video_fps,
    window_to_uint8,
    write_video,
)

__all__ = [
    "VIDEO_FORMATS",
    "ArrayClip",
    "Traced",
    "Tracing",
    "VideoFormat",
    "VideoInfo",
    "check_frame_size",
    "check_frames",
    "decode_video",
    "encode_video",
    "probe_video",
    "read_bytes",
    "read_video",
    "resample_indices",
    "to_grey",
    "video_fps",
    "window_to_uint8",
    "write_video",
]
