"""A command ends with 0, 1 or 2, and what is wrong is one line on stderr."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import echosdk
from echosdk import registry as registry_module
from echosdk.cli import COMMANDS
from echosdk.clips import Traced
from echosdk.devices import pick_device
from echosdk.plugin_set import open_source

GOES_WRONG = (
    "plugins show nothing",
    "plugins show vae --kind encoders",
    "plugins nothing",
    "nothing",
    "generate",
    "generate --out OUT --nothing",
    "generate --out OUT --num-videos 0",
    "generate --out OUT --plugin-set nothing --bundle BUNDLE",
    "generate --out OUT --plugin-set bad.toml --bundle BUNDLE",
    "generate --out OUT --plugin-set default-tiny --bundle nowhere",
    "generate --out OUT --plugin-set default-tiny --bundle BUNDLE --use privacy_filter=pearsn-reid",
    "generate --out OUT --plugin-set default-tiny --bundle BUNDLE --use filter=pearson-reid",
    "generate --out OUT --plugin-set default-tiny --bundle BUNDLE --set image_prior.blocks=[8]",
    "generate --out OUT --plugin-set default-tiny --bundle BUNDLE --set image_prior.num_inference_steps=3.9",
    "generate --out OUT --plugin-set default-tiny --bundle BUNDLE --set privacy_filter.percentile=200",
    "generate --out OUT --plugin-set default-tiny --bundle BUNDLE --splits train=2,dev=1",
    "generate --out OUT --plugin-set default-tiny --bundle BUNDLE --shards 9:12",
    "generate --out OUT --plugin-set default-tiny --bundle BUNDLE --device foo",
    "generate --out OUT --plugin-set default-tiny --bundle BUNDLE --device cpu:1",
    "generate --out OUT --plugin-set default-tiny --bundle BUNDLE --device cuda:99",
    "generate --out OUT --plugin-set default-tiny --bundle BUNDLE --labels empirical",
    "generate --out OUT --plugin-set default-tiny --bundle BUNDLE --workers 1 --private-audit bad.toml/audit",
    "generate --out foo://OUT --plugin-set default-tiny --bundle BUNDLE",
    "generate --out s3://bucket/out --plugin-set default-tiny --bundle BUNDLE",
    "train --plugin-set default-tiny --data phantom --out OUT --device foo",
    "train --plugin-set default-tiny --data phantm --out OUT",
    "train --plugin-set default-tiny --data phantom?patients=1 --out OUT",
    "bundle show nowhere",
    "bundle strip BUNDLE BUNDLE",
    "data show phantom?patients=0",
    "data show echonet-dynamic:nowhere",
    "data export phantom BUNDLE",
    "data export phantom OUT --layout phantom",
    "data export phantom foo://OUT",
    "data export phantom s3://bucket/out",
    "verify nowhere",
    "verify foo://OUT",
    "reproduce s3://bucket/out",
    "merge foo://OUT",
    "evaluate nowhere --data phantom",
    "evaluate nowhere",
    "validate nowhere --data phantom",
    "validate memory://nowhere --data phantom",
    "validate --data phantom",
    "validate nowhere --data phantom --seeds 1",
    "repair foo://OUT",
)


@pytest.mark.parametrize("line", GOES_WRONG)
def test_what_is_wrong_is_one_line_on_stderr_and_status_2(line, run_echosdk, trained_tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text("[encoder\n")
    words = [
        {"OUT": str(tmp_path / "out"), "BUNDLE": str(trained_tiny.folder)}.get(word, word) for word in line.split()
    ]
    ended = run_echosdk(*words)
    assert ended.status == 2, ended.err
    said = ended.err.splitlines()
    assert ended.out == ""
    assert [each for each in said if each.startswith("echosdk: ")] == said[-1:]
    if not line.startswith("train"):
        assert len(said) == 1, ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "out" / "bundle.json").exists()
    assert not list((tmp_path / "out").glob("*.tar"))


@pytest.mark.parametrize(
    ("device", "there", "says"),
    [
        ("foo", 0, "--device foo: no such device; choose from auto, cpu, cuda and cuda:N"),
        ("cuda:x", 2, "--device cuda:x: no such device; choose from auto, cpu, cuda and cuda:N"),
        ("cuda", 0, f"--device cuda: torch {torch.__version__} finds no CUDA device here; use --device cpu"),
        ("cuda:2", 2, "--device cuda:2: there are 2, numbered from 0"),
    ],
)
def test_a_device_that_is_not_there_is_refused_by_its_name(device, there, says, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    with pytest.raises(echosdk.InputError) as error:
        pick_device(device)
    assert str(error.value) == says
    assert (pick_device("auto"), pick_device("cpu")) == ("cuda" if there else "cpu", "cpu")


def test_an_error_of_the_system_is_one_line_and_status_two(run_echosdk, monkeypatch):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device", "somewhere/file")

    monkeypatch.setattr("echosdk.plugin_listing.list_offers", full)
    ended = run_echosdk("plugins", "list")
    assert (ended.status, ended.out) == (2, "")
    assert ended.err == "echosdk: somewhere/file: No space left on device\n"


def test_a_private_audit_that_cannot_be_written_is_refused_before_any_work(
    run_echosdk, trained_tiny, tmp_path, monkeypatch
):
    monkeypatch.setattr("echosdk.generation.pipeline.Pipeline.load", lambda *_: pytest.fail("work was done"))
    (tmp_path / "file").write_text("")
    words = ("--plugin-set", "default-tiny", "--bundle", str(trained_tiny.folder), "--workers", "1")
    audit = tmp_path / "file" / "audit"
    ended = run_echosdk("generate", *words, "--out", str(tmp_path / "out"), "--private-audit", str(audit))
    assert (ended.status, ended.out) == (2, "")
    assert ended.err == f"echosdk: --private-audit {audit}: cannot be written to: Not a directory\n"
    assert not (tmp_path / "out").exists()


def test_a_damaged_bundle_ends_generation_with_one_line_and_nothing_written(run_echosdk, tiny_bundle, tmp_path):
    (weights,) = (tiny_bundle / "encoder").glob("*.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    words = ("--plugin-set", "default-tiny", "--bundle", str(tiny_bundle), "--num-videos", "1", "--workers", "1")
    ended = run_echosdk("generate", *words, "--frames", "8", "--out", str(tmp_path / "out"))
    assert (ended.status, ended.out) == (2, "")
    assert ended.err == (
        f"echosdk: {tiny_bundle}/encoder: damaged: its files are not those that were trained; fetch the bundle again\n"
    )
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_the_console_script_ends_without_a_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from echosdk.cli import main; sys.exit(main())", "plugins", "show", "nothing"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(
        "echosdk: no component, data source, plugin set, bundle, published layout or feature extractor named 'nothing'; choose from "
    )


@pytest.mark.parametrize("code", ["import echosdk", "from echosdk.cli import main; main(['--help'])", *(
    f"import sys\nfrom echosdk.cli import main\ntry: main(['{name}', '--help'])\nexcept SystemExit: pass"
    for name in COMMANDS
)])  # fmt: skip
def test_help_and_import_load_neither_torch_nor_diffusers(code):
    heavy = "import sys; print([n for n in ('torch', 'diffusers', 'torchvision', 'accelerate') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{heavy}"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_lists_every_command_and_each_has_its_own(run_echosdk):
    told = run_echosdk("--help")
    assert told.status == 0
    for name in COMMANDS:
        assert f"\n  {name} " in told.out
        assert run_echosdk(name, "--help").status == 0


def test_version(run_echosdk):
    assert run_echosdk("--version").out.strip().endswith(echosdk.__version__)


def test_plugins_list_is_a_table_of_one_line_an_offer(run_echosdk, registry):
    told = run_echosdk("plugins", "list")
    assert told.status == 0
    lines = told.out.splitlines()
    assert lines[0].split() == ["kind", "name", "plugin", "summary"]
    assert len(lines) == 1 + len(registry.offers)
    (line,) = (line for line in lines if "overlap-discard" in line)
    assert "  Overlapping windows; " in line
    assert "stitch (echosdk " in line


def test_plugins_list_shows_problems_and_other_commands_work(run_echosdk, monkeypatch, tmp_path):
    """A plugin that raises on import, one that misspells a hook, and one that clashes."""
    (tmp_path / "raises_x.py").write_text("raise RuntimeError('out of\\norder')")
    hook = "import echosdk\n@echosdk.hookimpl\ndef {}():\n    yield echosdk.Component(name='vae', build=dict, summary='')\n"
    (tmp_path / "misspelt_x.py").write_text(hook.format("echosdk_encoder"))
    (tmp_path / "clashes_x.py").write_text(hook.format("echosdk_encoders"))
    monkeypatch.syspath_prepend(tmp_path)
    extra = [
        importlib.metadata.EntryPoint(name=name, value=f"{name}_x", group="echosdk")
        for name in ("raises", "misspelt", "clashes")
    ]
    real = importlib.metadata.entry_points
    monkeypatch.setattr(registry_module, "entry_points", lambda group: [*real(group=group), *extra])

    told = run_echosdk("plugins", "list")
    assert told.status == 0
    problems = told.out.split("\nproblems:\n")[1].splitlines()
    assert len(problems) == 3
    assert "raises ( ): failed to load: RuntimeError: out of order" in problems[1] + problems[0] + problems[2]
    assert any(
        "implements the hook 'echosdk_encoder', which does not exist; did you mean 'echosdk_encoders'?" in p
        for p in problems
    )
    assert any("offers the component 'vae', which" in p for p in problems)

    listing = json.loads(run_echosdk("plugins", "list", "--json").out)
    assert {problem["plugin"] for problem in listing["problems"]} >= {"raises", "misspelt"}
    assert run_echosdk("plugins", "show", "phantom").status == 0
    assert run_echosdk("data", "show", "phantom?patients=8").status == 0


def test_plugins_show_is_a_table_of_parameters(run_echosdk):
    told = run_echosdk("plugins", "show", "pearson-reid")
    assert told.status == 0
    lines = told.out.splitlines()
    assert lines[0].startswith("privacy_filter pearson-reid: ")
    assert lines[2].split() == ["parameter", "role", "default", "type"]
    assert ["percentile", "run", "5.0", "a", "number"] in [line.split() for line in lines]
    (shown,) = json.loads(run_echosdk("plugins", "show", "pearson-reid", "--json").out)
    assert shown["parameters"][0]["name"] == "architecture"


def test_bundle_show(run_echosdk, trained_tiny):
    told = run_echosdk("bundle", "show", str(trained_tiny.folder))
    assert told.status == 0
    assert "frames:  32x32 at 16 frames/s" in told.out
    assert "label:   simulated_EF: 10 to 80 %" in told.out
    assert "never publish" in told.out
    (line,) = (line for line in told.out.splitlines() if line.startswith("image_prior"))
    assert "lidm" in line
    assert "steps 4" in line
    about = json.loads(run_echosdk("bundle", "show", str(trained_tiny.folder), "--json").out)
    assert about["stages"]["encoder"]["use"] == "vae"
    assert about["stripped"] is False


def test_bundle_show_says_that_a_simulation_is_one(run_echosdk, trained_tiny, tiny_bundle):
    said = "\nthat is: SIMULATION of apical four-chamber videos with a known ejection fraction; stands for no patient\n"
    assert said in run_echosdk("bundle", "show", str(trained_tiny.folder)).out
    path = tiny_bundle / "bundle.json"
    plain = json.loads(path.read_text())
    del plain["data"]["summary"]  # as an earlier version wrote it
    path.write_text(json.dumps(plain))
    told = run_echosdk("bundle", "show", str(tiny_bundle))
    assert told.status == 0
    assert "that is:" not in told.out


def test_train_goes_on_with_the_plugin_set_of_the_bundle_that_is_there(run_echosdk, tiny_bundle):
    """So the command that an error names trains what is missing as the rest was trained."""
    before = json.loads((tiny_bundle / "bundle.json").read_text())
    source = "phantom?patients=16&frames=40&size=32"
    words = ("--stage", "stitcher", "--data", source, "--out", str(tiny_bundle), "--device", "cpu")
    told = run_echosdk("train", *words, "--set", "stitcher.micro_batch=3")
    assert told.status == 0, told.err
    assert "stitcher: 'overlap-discard' learns nothing" in told.err
    after = json.loads((tiny_bundle / "bundle.json").read_text())
    assert after["plugin_set"].pop("stitcher")["micro_batch"] == 3
    del before["plugin_set"]["stitcher"]
    assert after == before


def test_train_says_that_a_bundle_is_of_another_plugin_set(run_echosdk, tiny_bundle):
    source = "phantom?patients=16&frames=40&size=32"
    words = ("--plugin-set", "default", "--stage", "stitcher", "--data", source, "--out", str(tiny_bundle))
    told = run_echosdk("train", *words, "--device", "cpu")
    assert told.status == 2
    assert told.err.splitlines()[-1] == (
        f"echosdk: {tiny_bundle}: holds a bundle with other fps; choose another --out"
    )


def test_bundle_strip_says_what_it_does_not_do(run_echosdk, trained_tiny, tmp_path):
    told = run_echosdk("bundle", "strip", str(trained_tiny.folder), str(tmp_path / "out"))
    assert told.status == 0
    assert "does NOT clear the weights for publication" in told.out
    assert "none: this bundle was stripped" in run_echosdk("bundle", "show", str(tmp_path / "out")).out
    ended = run_echosdk(
        "generate", "--plugin-set", "default-tiny", "--bundle", str(tmp_path / "out"), "--out", str(tmp_path / "data")
    )
    assert ended.status == 2
    assert ended.err.count("\n") == 1
    assert "or say --no-privacy-filter" in ended.err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("terminal", [True, False])
def test_training_draws_a_bar_on_a_terminal_and_says_lines_in_a_log(terminal, run_echosdk, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    words = ("--plugin-set", "default-tiny", "--data", "phantom?patients=16&frames=16&size=32", "--device", "cpu")
    ended = run_echosdk("train", *words, "--stage", "downstream_validator", "--out", str(tmp_path / "out"))
    assert ended.status == 0, ended.err
    assert ("\rdownstream_validator-" in ended.err) == terminal
    assert "\ndownstream_validator: step 4/4  loss " in ended.err.replace("\r", "\n")


def test_data_show(run_echosdk):
    told = run_echosdk("data", "show", "phantom?patients=16&videos=2&frames=2")
    assert told.status == 0
    rows = [line.split() for line in told.out.splitlines()]
    assert ["train", "24", "12", "32"] in rows
    assert ["val", "4", "2", "32"] in rows
    assert "label simulated_EF: 10 to 80 %; found: " in told.out
    about = json.loads(run_echosdk("data", "show", "phantom?patients=16", "--json").out)
    low, high = about["seen"]["simulated_EF"]["range"]
    assert 10 <= low < high <= 80
    assert about["patients_in_two_splits"] == 0


def test_data_show_reads_no_frame(run_echosdk, monkeypatch):
    def render(*_arguments):
        raise AssertionError("a frame was read")

    monkeypatch.setattr("echosdk_phantom.source.simulate", render)
    assert run_echosdk("data", "show", "phantom?patients=8").status == 0


def test_what_is_exported_is_read_back(run_echosdk, registry, tmp_path):
    text, out = "phantom?patients=8&videos=2&size=48", str(tmp_path / "layout")
    told = run_echosdk("data", "export", text, out)
    assert (told.status, told.out) == (0, f"{out}: 16 clips (train 12, val 2, test 2)\n")
    source, reader = open_source(registry, text), open_source(registry, f"echonet-dynamic:{out}")
    for split in ("train", "val", "test"):
        pairs = list(zip(source.clips(split), reader.clips(split), strict=True))
        assert pairs
        for written, read in pairs:
            assert (read.id, read.group, read.split, read.fps) == (written.id, written.group, split, written.fps)
            assert read.labels["EF"] == written.labels["simulated_EF"]
            difference = np.abs(read.frames.astype(float) - written.frames)
            assert difference.mean() < 4  # Motion JPEG
    assert isinstance(source, Traced)


def test_what_is_exported_carries_the_true_tracings(run_echosdk, registry, tmp_path):
    import csv

    out = tmp_path / "layout"
    told = json.loads(run_echosdk("data", "export", "phantom?patients=4&size=48", str(out), "--json").out)
    assert sum(told["clips"].values()) == 4
    source = open_source(registry, "phantom?patients=4&size=48")
    with (out / "VolumeTracings.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    with (out / "FileList.csv").open(newline="") as file:
        rows = {row["FileName"]: row for row in csv.DictReader(file)}
    assert len(rows) == 4
    for name, row in rows.items():
        tracing = source.tracings(name)
        own = [line for line in lines if line["FileName"] == f"{name}.avi"]
        assert sorted({int(line["Frame"]) for line in own}) == sorted(tracing.frames)
        assert len(own) == 2 * 21
        assert (float(row["EDV"]), float(row["ESV"])) == tracing.volumes
        measured = 100 * (1 - float(row["ESV"]) / float(row["EDV"]))
        assert measured == pytest.approx(float(row["EF"]), abs=3)


def test_an_exported_folder_is_written_to_any_url(run_echosdk):
    told = run_echosdk("data", "export", "phantom?patients=2&frames=2&size=32", "memory://exported/phantom")
    assert told.status == 0, told.err
    assert run_echosdk("data", "show", "echonet-dynamic:memory://exported/phantom").status == 0
