"""The preview shows kept videos and the manifest's figures, in one file that asks the network for nothing."""

from __future__ import annotations

import base64
import copy
import io
import re
from functools import cache
from html import unescape
from html.parser import HTMLParser
from typing import Any

import av
import numpy as np
import pytest

from echosdk.clips import VideoFormat, decode_video, encode_video
from echosdk.generation.dataset import NO_FILTER
from echosdk.generation.shards import rate
from echosdk.report.charts import ticks
from echosdk.report.page import count, element, join, measured, percent
from echosdk.report.preview import render_preview, spread

EF = {"name": "EF", "unit": "%", "low": 10.0, "high": 80.0}
VIEW = {"name": "view", "values": {"four-chamber": 0, "two-chamber": 0}}
SILENT = {"style", "script", "head"}


class Page(HTMLParser):
    """What a browser makes of a page: its elements, and the lines of text that one sees."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.lines: list[str] = []
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if data.strip() and not SILENT & set(self._open):
            self.lines.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(self.lines).replace("\N{NO-BREAK SPACE}", " ")

    def videos(self) -> list[bytes]:
        prefix = "data:video/mp4;base64,"
        urls = [marks["src"] or "" for tag, marks in self.elements if tag == "video"]
        assert all(url.startswith(prefix) for url in urls)
        return [base64.b64decode(url.removeprefix(prefix), validate=True) for url in urls]


def clip(number: int, shape: tuple[int, ...] = (5, 16, 24)) -> np.ndarray:
    """Frames with a slope, the whole brighter from sample to sample."""
    frames = np.zeros(shape, np.uint8) + np.uint8(20 + 3 * number)
    return frames + np.arange(shape[2], dtype=np.uint8).reshape((shape[2],) + (1,) * (len(shape) - 3))


@cache
def encoded(number: int, shape: tuple[int, ...], fmt: VideoFormat) -> bytes:
    """The file of `clip(number, shape)`, encoded once a run."""
    return encode_video(clip(number, shape), 8.0, fmt)


class Dataset:
    """A manifest, the index's rows and their files, as `merge` hands them over."""

    def __init__(
        self,
        labels: list[dict[str, Any]],
        values: list[dict[str, Any]],
        fmt: str = "mp4",
        shape: tuple[int, ...] = (5, 16, 24),
    ) -> None:
        about = {"fps": 8.0, "num_frames": shape[0], "split": "train"}
        self.rows = [{"key": f"synthetic-{i:08d}", "labels": value, **about} for i, value in enumerate(values)]
        self.numbers = {row["key"]: i % 8 for i, row in enumerate(self.rows)}
        self.format, self.shape, self.read = fmt, shape, []
        self.manifest: dict[str, Any] = {
            "plan": {
                "plugin_set": {"fps": 8.0, "encoder": {"use": "vae"}, "privacy_filter": {"use": "pearson-reid"}},
                "bundle_digest": "c87950a4513a3987132eea752fcaa0a5",
                "counts": {"train": len(values), "val": 0},
                "num_frames": shape[0],
                "fps": 8.0,
                "labels": "uniform",
                "seed": 0,
                "format": fmt,
                "privacy_filter": True,
            },
            "counts": {"samples": len(values)},
            "rejected": {"stills": rate(3, 40), "videos": rate(0, 37)},
            "labels": [self._statistics(copy.deepcopy(label)) for label in labels],
            "trained_on": {"source": "phantom", "parameters": {"patients": 16}, "train_clips": 12, "val_clips": 2},
            "versions": {"echosdk": "0.1.0", "torch": "2.13.0"},
            "hardware": {"machine": "x86_64", "device": "cpu"},
        }

    def _statistics(self, label: dict[str, Any]) -> dict[str, Any]:
        values = [row["labels"][label["name"]] for row in self.rows]
        if "values" in label:
            return label | {"values": {value: values.count(value) for value in label["values"]}}
        counts, edges = np.histogram(values, 7, (label["low"], label["high"]))
        return label | {
            "mean": float(np.mean(values)),
            "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
        }

    def video(self, key: str) -> bytes:
        self.read.append(key)
        return encoded(self.numbers[key], self.shape, self.format)

    def html(self) -> str:
        return render_preview(self.manifest, self.rows, self.video)

    def page(self) -> Page:
        return Page(self.html())


def numeric(number: int, fmt: str = "mp4", shape: tuple[int, ...] = (5, 16, 24)) -> Dataset:
    values = np.random.default_rng(0).uniform(10, 80, number)
    return Dataset([EF], [{"EF": float(value)} for value in values], fmt, shape)


def test_asks_the_network_for_nothing():
    html = numeric(3).html()
    page = Page(html)
    links = [
        marks[name] or "" for _, marks in page.elements for name in ("src", "href", "poster", "srcset") if name in marks
    ]
    assert len(links) == 4  # three videos and the icon
    assert all(link.startswith("data:") for link in links)
    assert "url(" not in html
    assert "@import" not in html
    assert "http:" not in html
    assert "https:" not in html


def test_its_policy_lets_no_script_run_but_its_own():
    import hashlib

    html = numeric(1).html()
    (policy,) = [marks["content"] or "" for tag, marks in Page(html).elements if marks.get("http-equiv")]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (inline,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_a_warning_is_the_first_line_and_starts_the_title():
    dataset = numeric(2)
    dataset.manifest |= {"warning": NO_FILTER}
    html = dataset.html()
    assert Page(html).lines[0] == NO_FILTER
    (title,) = re.findall("<title>(.*?)</title>", html)
    assert unescape(title).startswith(NO_FILTER)


def test_without_a_warning_the_page_warns_of_nothing():
    assert "WARNING" not in numeric(2).html()


@pytest.mark.parametrize("place", ["label", "unit", "category", "source", "summary", "component", "key", "warning", "rejected"])
def test_text_from_elsewhere_stays_text(place):
    evil = "\"><script>alert(1)</script>&'"
    name, unit, value = (evil if place == what else "plain" for what in ("label", "unit", "category"))
    labels = [EF | {"name": name, "unit": unit}, {"name": "view", "values": {value: 0}}]
    dataset = Dataset(labels, [{name: 30.0, "view": value}])
    if place == "source":
        dataset.manifest["trained_on"]["source"] = evil
    if place == "summary":
        dataset.manifest["trained_on"]["summary"] = evil
    if place == "component":
        dataset.manifest["plan"]["plugin_set"]["encoder"]["use"] = evil
    if place == "warning":
        dataset.manifest["warning"] = evil
    if place == "rejected":
        dataset.manifest["rejected"][evil] = rate(1, 2)
    if place == "key":
        dataset.numbers[evil] = 0
        dataset.rows[0]["key"] = evil
    page = dataset.page()
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert "alert(1)" in page.text


def test_markup_passes_and_text_does_not():
    assert element("p", "a < b", element("b", "&"), title='"') == '<p title="&quot;">a &lt; b<b>&amp;</b></p>'
    assert join(f"{element('b')}") == "&lt;b&gt;&lt;/b&gt;"  # formatted markup is text again


def test_shows_how_often_the_filter_rejected_with_interval():
    text = numeric(2).page().text
    low, high = rate(3, 40)["interval_95"]
    assert f"stills 3 40 7.5 % {100 * low:.1f} % to {100 * high:.1f} %" in text
    assert "videos 0 37 0.0 % 0.0 % to 9.5 %" in text
    assert "compared with the training references by pearson-reid" in text


def test_a_rate_of_nothing_says_not_asked():
    dataset = numeric(2)
    dataset.manifest["rejected"]["videos"] = rate(0, 0)
    assert "videos 0 0 not asked not asked" in dataset.page().text


def test_without_a_filter_no_rate_of_rejection_is_claimed():
    dataset = numeric(2)
    dataset.manifest["plan"]["privacy_filter"] = False
    text = dataset.page().text
    assert "7.5 %" not in text
    assert "pearson-reid" not in text
    assert "None was used" in text
    assert "privacy filter not used" in text


def test_makes_no_claim_that_people_have_to_judge():
    text = numeric(2).page().text.lower()
    assert "evidence for your own assessment, not a certificate" in text
    assert not re.search(r"anonym|complian|\bsafe|proof|proves|guarant|tau\b|distance", text)


def test_says_nothing_that_is_not_in_the_manifest_or_a_label():
    dataset = numeric(2)
    dataset.rows[0] |= {"distance": 0.123456, "attempt": 7777}
    dataset.rows[0]["labels"]["nearest"] = "patient-0042"
    html = dataset.html()
    assert "0.123456" not in html
    assert "7777" not in html
    assert "patient-0042" not in html


def test_mp4_videos_are_the_datasets_own_files():
    dataset = numeric(6)
    shown = dataset.page().videos()
    assert shown == [encoded(dataset.numbers[key], dataset.shape, "mp4") for key in dataset.read]
    for video in shown:
        with av.open(io.BytesIO(video)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 5


@pytest.mark.parametrize("number", [1, 24, 25, 1000])
def test_shows_at_most_24_and_says_of_how_many(number):
    dataset = numeric(number)
    page = dataset.page()
    shown = min(number, 24)
    assert len(page.videos()) == len(set(dataset.read)) == shown
    assert f"{shown} of {number} shown" in page.text
    assert page.lines[0].startswith(f"{number} synthetic {'video' if number == 1 else 'videos'}")


def test_videos_span_the_labels_range_in_order():
    dataset = numeric(1000)
    dataset.page()
    values = {row["key"]: row["labels"]["EF"] for row in dataset.rows}
    shown = [values[key] for key in dataset.read]
    assert shown == sorted(shown)
    assert (shown[0], shown[-1]) == (min(values.values()), max(values.values()))
    assert np.diff(shown) == pytest.approx((shown[-1] - shown[0]) / 23, abs=0.5)


def test_where_all_videos_are_shown_none_were_chosen():
    assert "3 of 3 shown, sorted by EF, the lowest first." in numeric(3).page().text
    assert "24 of 25 shown, spread evenly over the range of EF" in numeric(25).page().text


def test_each_video_carries_its_key_and_its_labels_with_units():
    dataset = numeric(30)
    text = dataset.page().text
    for key in dataset.read:
        (row,) = [row for row in dataset.rows if row["key"] == key]
        assert f"EF {row['labels']['EF']:.1f} % {key}" in text


def test_with_only_a_category_every_value_is_shown():
    values = [{"view": "two-chamber" if i == 70 else "four-chamber"} for i in range(100)]
    dataset = Dataset([VIEW], values)
    page = dataset.page()
    assert len(page.videos()) == 24
    assert dataset.read[-1] == "synthetic-00000070"
    assert "the values of view one after the other" in page.text
    assert "four-chamber 99 two-chamber 1" in page.text


def test_without_labels_the_videos_are_spread_over_the_dataset():
    dataset = Dataset([], [{} for _ in range(100)])
    assert "These videos have no labels." in dataset.page().text
    assert dataset.read[0] == "synthetic-00000000"
    assert dataset.read[-1] == "synthetic-00000099"
    assert len(dataset.read) == 24


def test_spread_takes_equal_labels_in_their_order():
    rows = [{"key": i, "labels": {"EF": 50.0}} for i in range(10)]
    assert [row["key"] for row in spread(rows, [EF], 3)] == [0, 1, 2]


def test_the_histograms_numbers_are_the_manifests():
    dataset = numeric(200)
    page = dataset.page()
    histogram = dataset.manifest["labels"][0]["histogram"]
    edges, counts = histogram["edges"], histogram["counts"]
    rows = [f"{low:.1f} to {high:.1f} {n}" for low, high, n in zip(edges, edges[1:], counts, strict=False)]
    assert " ".join(rows) in page.text
    heights = [float(marks["height"]) for tag, marks in page.elements if tag == "rect"]
    assert np.array(heights) / max(heights) == pytest.approx(np.array(counts) / max(counts), abs=1e-3)
    (drawing,) = [marks for tag, marks in page.elements if marks.get("role") == "img"]
    assert "200 videos" in drawing["aria-label"]
    assert f"the mean, {dataset.manifest['labels'][0]['mean']:.1f}" in page.text


def test_says_when_labels_lie_outside_the_range():
    dataset = Dataset([EF], [{"EF": value} for value in (5.0, 20.0, 30.0)])
    assert "1 of 3 outside the range of EF, in none of its bars" in dataset.page().text
    assert "outside the range" not in numeric(3).page().text


@pytest.mark.parametrize("fmt", ["avi", "mkv", "npy"])
@pytest.mark.parametrize("shape", [(5, 16, 24), (5, 16, 24, 3)], ids=["grey", "colour"])
def test_formats_that_browsers_do_not_play_become_mp4(fmt, shape):
    dataset = numeric(3, fmt, shape)
    page = dataset.page()
    assert f"Browsers do not play {fmt}" in page.text
    assert "padded" not in page.text
    for key, video in zip(dataset.read, page.videos(), strict=True):
        frames, fps = decode_video(video, grey=len(shape) == 3)
        assert fps == 8.0
        assert frames.shape == shape
        assert np.abs(frames.astype(int) - clip(dataset.numbers[key], shape)).mean() < 3


def test_mp4_needs_no_such_remark():
    assert "Browsers do not play" not in numeric(2).page().text


@pytest.mark.parametrize("shape", [(5, 17, 24), (5, 16, 25), (5, 17, 25, 3)])
def test_odd_sizes_are_padded_by_their_last_row_and_column(shape):
    dataset = numeric(2, "npy", shape)
    page = dataset.page()
    height, width = shape[1:3]
    assert f"Copies of {height} by {width} pixels are padded to even sides" in page.text
    for key, video in zip(dataset.read, page.videos(), strict=True):
        frames, _ = decode_video(video, grey=len(shape) == 3)
        assert frames.shape[1:3] == (height + height % 2, width + width % 2)
        last = clip(dataset.numbers[key], shape)[:, -1, -1].astype(int)
        assert np.abs(frames[:, -1, -1].astype(int) - last).max() < 8  # not black


def test_states_plan_components_and_origin():
    text = numeric(12).page().text
    assert "frames each 5 frames per second 8 seconds each 0.625" in text
    for fact in ("encoder vae", "phantom , patients 16: 12 train clips, 2 val clips", "torch 2.13.0"):
        assert fact in text
    assert "videos by split train 12 encoder" in text


def test_says_what_the_data_is_where_the_bundle_knows():
    dataset = numeric(2)
    assert "what that is" not in dataset.page().text
    dataset.manifest["trained_on"]["summary"] = "SIMULATION; stands for no patient"
    assert "2 val clips what that is SIMULATION; stands for no patient bundle digest" in dataset.page().text


def test_videos_can_be_told_apart_and_stopped_without_seeing_them():
    page = numeric(3).page()
    videos = [marks for tag, marks in page.elements if tag == "video"]
    assert len({marks["aria-label"] for marks in videos}) == 3
    assert all({"autoplay", "loop", "muted", "playsinline", "controls"} <= marks.keys() for marks in videos)
    assert "Pause all" in page.text


def test_the_same_dataset_gives_the_same_page():
    assert numeric(5, "npy").html() == numeric(5, "npy").html()


def test_shares_are_never_rounded_to_none_or_all():
    shown = [percent(share).replace("\N{NO-BREAK SPACE}", " ") for share in (0, 0.00004, 0.25, 0.99999, 1)]
    assert shown == ["0.0 %", "0.004 %", "25.0 %", "> 99.9 %", "100.0 %"]


def test_numbers_are_written_to_be_read():
    assert (count(1000), count(12000)) == ("1000", "12,000")
    assert (measured(66.92042, 70), measured(0.123456, 0.5), measured(1234.5, 3000)) == ("66.9", "0.123", "1234")


@pytest.mark.parametrize(("low", "high"), [(10, 80), (40, 140), (0, 1), (-3, 0.5), (0, 1e6), (0.001, 0.0042)])
def test_an_axis_has_a_few_round_ticks_inside_its_range(low, high):
    marks = ticks(low, high)
    assert 4 <= len(marks) <= 8
    assert low <= min(marks)
    assert max(marks) <= high
    assert np.diff(marks) == pytest.approx(marks[1] - marks[0])
