"""Videos come back as they were written, and files that are no videos are refused in one clear line."""

import io
import subprocess
import sys
from pathlib import Path

import av
import fsspec
import numpy as np
import pytest

from echosdk.clips import (
    check_frame_size,
    decode_video,
    encode_video,
    probe_video,
    read_video,
    resample_indices,
    to_grey,
    video_fps,
    window_to_uint8,
    write_video,
)
from echosdk.errors import DataError

CONTAINERS = ("mp4", "mkv", "avi")


def disc(num_frames=8, height=48, width=64):
    """A bright disc that moves over a gradient with speckle, a black corner and a white one."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    frames = np.empty((num_frames, height, width))
    for t in range(num_frames):
        frames[t] = (
            60 + x + 80 * ((x - 20 - 2 * t) ** 2 + (y - 24) ** 2 < 120) + generator.normal(0, 3, (height, width))
        )
    frames[:, :16, :16] = 0
    frames[:, -16:, -16:] = 255
    return frames.clip(0, 255).astype(np.uint8)


def coloured(frames):
    return np.stack([frames, 255 - frames, frames // 2], axis=-1)


def smooth_colour(num_frames=4):
    y, x = np.mgrid[:48, :64]
    image = np.stack([3 * x, 255 - 4 * y, 40 + 2 * x], axis=-1).astype(np.uint8)
    return np.stack([np.roll(image, t, axis=0) for t in range(num_frames)])


def error(difference_of, reference):
    return np.abs(difference_of.astype(int) - reference).mean()


# --- round trips ---


@pytest.mark.parametrize(
    "frames", [disc(), disc(1), disc(3, 33, 17), coloured(disc(3, 33, 17))], ids=lambda f: str(f.shape)
)
def test_mkv_and_npy_give_back_every_level(frames):
    decoded, fps = decode_video(encode_video(frames, 32, "mkv"))
    np.testing.assert_array_equal(decoded, frames)
    assert decoded.dtype == np.uint8
    assert fps == 32
    np.testing.assert_array_equal(np.load(io.BytesIO(encode_video(frames, 32, "npy")), allow_pickle=False), frames)


@pytest.mark.parametrize(("format", "bound"), [("mp4", 2.5), ("avi", 1.5)])
def test_lossy_formats_stay_close_and_keep_black_and_white(format, bound):
    frames = disc()
    decoded, _ = decode_video(encode_video(frames, 32, format))
    assert decoded.shape == frames.shape
    assert error(decoded, frames) < bound
    # Full range: a file taken for 16..235 (or written so) would show 16 for black or clip the greys to 0 and 255.
    assert decoded[:, 2:14, 2:14].mean() < 2
    assert decoded[:, -14:-2, -14:-2].mean() > 253
    assert abs(decoded.mean() - frames.mean()) < 0.2


@pytest.mark.parametrize("format", CONTAINERS)
def test_grey_stays_grey(format):
    decoded, _ = decode_video(encode_video(disc(), 32, format), grey=False)
    assert np.ptp(decoded, axis=-1).max() == 0


def test_every_grey_level_keeps_its_place_in_mp4():
    ramp = np.repeat(np.repeat(np.arange(0, 256, 4, dtype=np.uint8), 8)[None, :], 16, axis=0)[None]
    decoded, _ = decode_video(encode_video(ramp, 10, "mp4"), grey=True)
    assert np.abs(decoded.astype(int) - ramp).max() <= 6


def test_mp4_says_full_range_to_players():
    with av.open(io.BytesIO(encode_video(disc(), 32, "mp4"))) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.pix_fmt in ("yuv420p", "yuvj420p")
        assert stream.codec_context.color_range == 2
        assert next(container.decode(stream)).color_range == 2


@pytest.mark.parametrize("format", ["mp4", "avi"])
def test_lossy_colour_keeps_its_hues(format):
    frames = smooth_colour()
    decoded, _ = decode_video(encode_video(frames, 32, format))
    assert decoded.shape == frames.shape
    assert error(decoded, frames) < 5
    assert np.abs(decoded.mean((0, 1, 2)) - frames.mean((0, 1, 2))).max() < 2


@pytest.mark.parametrize("format", CONTAINERS)
@pytest.mark.parametrize("fps", [29.97, 30000 / 1001, 50, 32.517, 7.25, 0.5])
@pytest.mark.parametrize("num_frames", [1, 5])
def test_the_frame_rate_comes_back(format, fps, num_frames):
    decoded, read = decode_video(encode_video(disc(num_frames), fps, format))
    assert read == pytest.approx(fps, abs=1e-5)
    assert len(decoded) == num_frames


@pytest.mark.parametrize("format", [*CONTAINERS, "npy"])
def test_the_same_frames_give_the_same_bytes(format):
    """Between the runs memory fills with other things: x264's macroblock tree, left to itself, depends on them."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:112, :112]
    waves = np.stack([128 + 100 * np.sin((x + 3 * t) / 9) * np.cos(y / 7) for t in range(20)])
    frames = (waves + generator.normal(0, 5, waves.shape)).clip(0, 255).astype(np.uint8)
    first = encode_video(frames, 32, format)
    litter = []
    for size in generator.integers(1_000, 600_000, 8):
        litter = [*litter[-4:], generator.integers(0, 255, size, dtype=np.uint8)]
        assert encode_video(frames, 32, format) == first


def test_h264_is_written_by_one_thread_and_without_what_depends_on_the_processor():
    """The encoder's settings stand in the file."""
    data = encode_video(disc(2, 512, 64), 32, "mp4")  # high enough that x264 would cut it for several threads
    assert b" threads=1 lookahead_threads=1 " in data
    assert b" mbtree=1 " not in data


@pytest.mark.parametrize("format", CONTAINERS)
def test_another_process_writes_the_same_bytes(format):
    code = (
        "import hashlib, numpy as np; from echosdk.clips import encode_video;"
        "frames = (np.arange(12 * 32 * 32) % 251).astype(np.uint8).reshape(12, 32, 32);"
        f"print(hashlib.sha256(encode_video(frames, 32, {format!r})).hexdigest())"
    )
    root = str(Path(__file__).parents[2])
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1] != ""


def test_odd_sizes_are_kept_where_the_format_can_and_refused_for_mp4():
    frames = disc(2, 33, 47)
    assert decode_video(encode_video(frames, 32, "avi"))[0].shape == (2, 33, 47)
    with pytest.raises(DataError, match=r"mp4: .*odd side.*33 x 47|mp4: .*33 x 47.*odd side") as caught:
        encode_video(frames, 32, "mp4")
    assert "choose mkv, avi or npy" in str(caught.value)
    check_frame_size("mkv", 33, 47)
    for height, width in ((112, 113), (113, 112)):
        with pytest.raises(DataError, match="odd side"):
            check_frame_size("mp4", height, width)


# --- grey and colour ---


def test_grey_is_the_rounded_mean_of_the_channels():
    frames = np.array([[[[0, 0, 1], [0, 1, 1], [255, 255, 255], [10, 20, 31]]]], dtype=np.uint8)
    np.testing.assert_array_equal(to_grey(frames), [[[0, 1, 255, 20]]])
    np.testing.assert_array_equal(to_grey(frames), np.rint(frames.astype(float).mean(-1)))
    assert to_grey(frames[..., 0]) is not None
    np.testing.assert_array_equal(to_grey(disc()), disc())


def test_reading_grey_averages_the_channels_of_a_colour_video():
    frames = smooth_colour()
    decoded, _ = decode_video(encode_video(frames, 32, "mkv"), grey=True)
    np.testing.assert_array_equal(decoded, to_grey(frames))


def test_reading_colour_repeats_a_grey_video():
    frames = disc()
    decoded, _ = decode_video(encode_video(frames, 32, "mkv"), grey=False)
    np.testing.assert_array_equal(decoded, np.repeat(frames[..., None], 3, axis=-1))


def test_a_video_is_colour_if_one_frame_has_one_coloured_pixel():
    frames = np.repeat(disc(3)[..., None], 3, axis=-1)
    assert decode_video(encode_video(frames, 32, "mkv"))[0].ndim == 3
    frames[2, 5, 5] = (0, 200, 0)
    decoded, _ = decode_video(encode_video(frames, 32, "mkv"))
    np.testing.assert_array_equal(decoded, frames)


# --- files ---


@pytest.mark.parametrize("format", CONTAINERS)
def test_files_are_written_and_read_at_any_url(tmp_path, format):
    frames = disc()
    for url in (f"{tmp_path}/a.{format}", f"memory://test-video/a.{format}"):
        write_video(url, frames, 29.97)
        decoded, fps = read_video(url)
        assert error(decoded, frames) < 2.5
        assert fps == pytest.approx(29.97)
        assert probe_video(url) == (8, fps, 48, 64)
        assert video_fps(url) == fps


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    url = tmp_path / "a.mkv"
    write_video(str(url), disc(), 32)
    before = url.read_bytes()

    def no_space(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("echosdk.clips.video.os.replace", no_space)
    with pytest.raises(DataError, match=r"a\.mkv: cannot be written: No space left on device"):
        write_video(str(url), disc(3), 32)
    assert url.read_bytes() == before
    assert list(tmp_path.iterdir()) == [url]


def test_the_count_is_right_where_the_header_lies(tmp_path):
    data = bytearray(encode_video(disc(8), 32, "avi"))
    total = data.index(b"avih") + 8 + 16  # dwTotalFrames
    length = data.index(b"strh") + 8 + 32  # dwLength
    for lie in (0, 3, 99):
        for at in (total, length):
            data[at : at + 4] = lie.to_bytes(4, "little")
        path = tmp_path / f"lie-{lie}.avi"
        path.write_bytes(data)
        assert probe_video(str(path)).num_frames == 8
        assert len(read_video(str(path))[0]) == 8


def test_a_missing_file_is_named():
    with pytest.raises(DataError, match=r"^memory://nowhere/a\.avi: no such file; check the path$"):
        read_video("memory://nowhere/a.avi")


@pytest.mark.parametrize("url", ["unknown-protocol://a.avi", "{tmp}"], ids=["protocol", "folder"])
def test_what_cannot_be_opened_is_one_clear_line(tmp_path, url):
    with pytest.raises(DataError, match=r"cannot be read: .*; check the path") as caught:
        read_video(url.format(tmp=tmp_path))
    assert "\n" not in str(caught.value)


def test_an_empty_file_is_refused():
    with pytest.raises(DataError, match=r"^a\.avi: the file is empty; copy it again$"):
        decode_video(b"", name="a.avi")


@pytest.mark.parametrize("format", CONTAINERS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_video_that_is_cut_short_is_refused(format, share):
    data = encode_video(disc(), 32, format)
    with pytest.raises(DataError, match=r"^a: the video is cut short \(\d+ of \d+ bytes\); copy it again$"):
        decode_video(data[: int(len(data) * share)], name="a")


@pytest.mark.parametrize(
    "data",
    [
        b"this is a text\n" * 50,
        b"FileName,EF\na,50\n",
        bytes(4000),
        b"ffconcat version 1.0\nfile /etc/hostname\n",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    ],
    ids=["text", "csv", "zeros", "concat list", "playlist"],
)
def test_what_is_no_video_is_refused_whatever_its_name(data):
    with pytest.raises(DataError, match=r"^a\.avi: not a video that can be read; give an \.avi, \.mp4 or \.mkv file$"):
        decode_video(data, name="a.avi")


def test_a_list_of_videos_does_not_make_the_reader_open_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video("private.avi", disc(), 32)
    Path("list.avi").write_text("ffconcat version 1.0\nfile private.avi\n")
    with pytest.raises(DataError, match="not a video"):
        read_video("list.avi")


def test_a_container_without_frames_is_refused():
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="avi") as container:
        stream = container.add_stream("mjpeg", rate=30)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuvj420p"
        container.start_encoding()
    with pytest.raises(DataError, match="holds no frame that can be decoded"):
        decode_video(buffer.getvalue())


def test_a_damaged_frame_is_named():
    data = bytearray(encode_video(np.random.default_rng(0).integers(0, 255, (12, 64, 64), dtype=np.uint8), 32, "mp4"))
    for at in range(len(data) // 3, len(data) // 2, 97):
        data[at] ^= 0x5A
    with pytest.raises(DataError, match=r"^a: frame \d+ is damaged; copy the file again$"):
        decode_video(bytes(data), name="a")


# --- what cannot be written ---


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (disc().astype(np.float32), "frames must be uint8, got float32"),
        (disc().astype(np.uint16), "window_to_uint8"),
        (disc()[0], r"frames must be t h w or t h w 3 .*got shape \(48, 64\)"),
        (disc()[:0], r"at least one frame, got shape \(0, 48, 64\)"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"got shape \(2, 8, 8, 4\)"),
    ],
    ids=["float", "16 bit", "one image", "no frames", "four channels"],
)
@pytest.mark.parametrize("format", ["mp4", "npy"])
def test_frames_of_another_type_or_shape_are_refused(frames, message, format):
    with pytest.raises(DataError, match=message):
        encode_video(frames, 32, format)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_a_frame_rate_must_be_positive(fps):
    with pytest.raises(DataError, match="fps must be a positive number, got"):
        encode_video(disc(), fps, "mkv")


def test_an_unknown_format_names_the_choices():
    with pytest.raises(DataError, match=r"memory://a\.mov: unknown video format 'mov'; choose from mp4, mkv, avi, npy"):
        write_video("memory://a.mov", disc(), 32)
    assert not fsspec.filesystem("memory").exists("a.mov")


# --- time and levels ---


def test_the_same_rate_keeps_every_frame():
    np.testing.assert_array_equal(resample_indices(7, 29.97, 29.97), range(7))


def test_half_the_rate_keeps_every_second_frame():
    np.testing.assert_array_equal(resample_indices(8, 50, 25), [0, 2, 4, 6])


def test_twice_the_rate_shows_every_frame_twice():
    np.testing.assert_array_equal(resample_indices(3, 25, 50), [0, 0, 1, 1, 2, 2])


@pytest.mark.parametrize("target", [1, 7.3, 24, 29.97, 32, 50, 59.94, 200])
@pytest.mark.parametrize("num_frames", [1, 2, 31, 176])
def test_resampling_keeps_the_duration_and_takes_the_nearest_frame(num_frames, target):
    fps = 50.0
    indices = resample_indices(num_frames, fps, target)
    assert len(indices) >= 1
    assert (
        abs(len(indices) / target - num_frames / fps)
        <= max(0.5 / target, 1 / target if len(indices) == 1 else 0) + 1e-9
    )
    assert (np.diff(indices) >= 0).all()
    assert indices.min() >= 0
    assert indices.max() < num_frames
    wanted = np.arange(len(indices)) / target
    distance = np.abs(np.arange(num_frames)[None] / fps - wanted[:, None])
    np.testing.assert_allclose(distance[np.arange(len(indices)), indices], distance.min(axis=1), atol=1e-9)


def test_resampling_needs_frames_and_rates():
    with pytest.raises(DataError, match="cannot resample 0 frames"):
        resample_indices(0, 50, 32)
    with pytest.raises(DataError, match="cannot resample from 50 to nan fps"):
        resample_indices(5, 50, float("nan"))


def test_a_window_maps_low_to_black_and_high_to_white():
    frames = np.array([[[0, 100, 150, 200, 65535]]], dtype=np.uint16)
    shown = window_to_uint8(frames, (100, 200))
    np.testing.assert_array_equal(shown, [[[0, 0, 128, 255, 255]]])
    assert shown.dtype == np.uint8
    with pytest.raises(DataError, match="low must be under high"):
        window_to_uint8(frames, (200, 100))


def test_importing_the_room_loads_no_torch():
    code = "import sys, echosdk.clips; print('torch' in sys.modules)"
    root = str(Path(__file__).parents[2])
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert run.stdout.strip() == "False"
