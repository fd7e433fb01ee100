"""Which value wins, and what is said where a plugin set, `--use` or `--set` is wrong."""

from __future__ import annotations

import pytest

import echosdk
from echosdk.interfaces import KINDS
from echosdk.plugin_set import PluginSet, open_layout, open_source, parse_source, resolve
from echosdk.registry import Registry

PLUGIN = """
    import echosdk
    from attrs import define, field
    from attrs.validators import ge, le

    @define
    class Filter:
        percentile: float = field(default=1.0, validator=[ge(0), le(100)])
        width: int = 10
        limits: dict[str, int] = field(factory=lambda: {"low": 1, "high": 9})

    @define
    class Other:
        percentile: float = 50.0

    @define
    class Needy:
        weight: float

    class Plain:
        pass

    @echosdk.hookimpl
    def echosdk_privacy_filters():
        yield echosdk.Component(name="max-correlation", build=Filter, summary="", shape=("width",))
        yield echosdk.Component(name="pearson-reid", build=Other, summary="")
        yield echosdk.Component(name="needy", build=Needy, summary="")

    @echosdk.hookimpl
    def echosdk_encoders():
        yield echosdk.Component(name="pixels", build=Plain, summary="")
        yield echosdk.Component(name="waves", build=Plain, summary="")

    @echosdk.hookimpl
    def echosdk_image_priors():
        yield echosdk.Component(name="plain", build=Plain, summary="")

    @echosdk.hookimpl
    def echosdk_video_animators():
        yield echosdk.Component(name="plain", build=Plain, summary="")

    @echosdk.hookimpl
    def echosdk_stitchers():
        yield echosdk.Component(name="plain", build=Plain, summary="")

    @echosdk.hookimpl
    def echosdk_downstream_validators():
        yield echosdk.Component(name="plain", build=Plain, summary="")
"""
USE = dict.fromkeys(KINDS, "plain") | {"encoder": "pixels", "privacy_filter": "max-correlation"}


@pytest.fixture
def small(make_module) -> Registry:
    """A registry of plain components: nothing of it learns."""
    return Registry.of(make_module("small", PLUGIN))


def toml(head="", **changes):
    """Write a plugin set; `privacy_filter` may be given as lines."""
    tables = {kind: f'use = "{name}"' for kind, name in USE.items()} | changes
    return head + "\n" + "\n".join(f"[{kind}]\n{lines}\n" for kind, lines in tables.items() if lines)


def parsed(text):
    return PluginSet.parse(text, where="default.toml")


def filter_of(plugin_set):
    choice = plugin_set.choices["privacy_filter"]
    return choice.use, choice.parameters


def error_of(function, *arguments, kind=echosdk.PluginSetError, **options):
    with pytest.raises(kind) as error:
        function(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


OWN = 'use = "max-correlation"\n'
BUNDLE = parsed(toml(privacy_filter=OWN + "percentile = 2.0\nwidth = 20"))


@pytest.mark.parametrize(
    ("own", "bundle", "set_", "wins"),
    [
        ("", None, (), 1.0),
        ("", BUNDLE, (), 2.0),
        ("percentile = 3.0", BUNDLE, (), 3.0),
        ("percentile = 3.0", BUNDLE, ("privacy_filter.percentile=4",), 4.0),
        ("percentile = 3.0", None, (), 3.0),
        ("", BUNDLE, ("privacy_filter.percentile=4.5",), 4.5),
    ],
)
def test_a_run_parameter_is_default_then_bundle_then_plugin_set_then_set(small, own, bundle, set_, wins):
    resolved = resolve(small, parsed(toml(privacy_filter=OWN + own)), set_=set_, bundle=bundle, trained=KINDS)
    assert filter_of(resolved)[1]["percentile"] == wins


def test_a_shape_parameter_is_the_bundles_where_that_is_trained(small):
    asked = parsed(toml(privacy_filter=OWN + "width = 30"))
    assert filter_of(resolve(small, asked))[1]["width"] == 30
    assert filter_of(resolve(small, asked, bundle=BUNDLE, trained=["privacy_filter"]))[1]["width"] == 20
    assert filter_of(resolve(small, asked, bundle=BUNDLE, trained=[]))[1]["width"] == 30


def test_set_on_a_shape_parameter_is_an_error_where_the_bundle_is_trained(small):
    asked, set_ = parsed(toml()), ["privacy_filter.width=40"]
    assert error_of(resolve, small, asked, set_=set_, bundle=BUNDLE, trained=KINDS) == (
        "--set privacy_filter.width: 'width' is fixed once 'max-correlation' is trained; the bundle has 20. "
        "Train another bundle to change it"
    )
    assert filter_of(resolve(small, asked, set_=set_))[1]["width"] == 40


def test_use_drops_the_old_components_parameters(small):
    asked = parsed(toml(privacy_filter=OWN + "percentile = 3.0\nwidth = 30"))
    resolved = resolve(small, asked, use=["privacy_filter=pearson-reid"], bundle=BUNDLE, trained=KINDS)
    assert filter_of(resolved) == ("pearson-reid", {"percentile": 50.0})


def test_use_of_what_is_used_already_keeps_its_parameters(small):
    asked = parsed(toml(privacy_filter=OWN + "percentile = 3.0"))
    assert filter_of(resolve(small, asked, use=["privacy_filter=max-correlation"]))[1]["percentile"] == 3.0


def test_set_gives_what_the_component_of_use_needs(small):
    asked = parsed(toml())
    assert error_of(resolve, small, asked, use=["privacy_filter=needy"]) == (
        "--use privacy_filter.weight: 'needy' needs a value"
    )
    resolved = resolve(small, asked, use=["privacy_filter=needy"], set_=["privacy_filter.weight=2"])
    assert filter_of(resolved) == ("needy", {"weight": 2.0})


def test_set_inside_a_table_leaves_its_other_keys(small, registry):
    resolved = resolve(small, parsed(toml()), set_=["privacy_filter.limits.low=5"])
    assert filter_of(resolved)[1]["limits"] == {"low": 5, "high": 9}
    default = PluginSet.find("default", registry)
    recipe = resolve(registry, default).choices["privacy_filter"].parameters["recipe"]
    changed = resolve(registry, default, set_=["privacy_filter.recipe.steps=10"]).choices["privacy_filter"].parameters
    assert changed["recipe"] == {**recipe, "steps": 10}


def test_another_encoder_than_the_bundles_is_refused(small):
    """Also one that does not learn: whatever else the bundle holds was made of the other's latents."""
    error = error_of(
        resolve, small, parsed(toml()), use=["encoder=waves"], bundle=BUNDLE, trained=KINDS, kind=echosdk.BundleError
    )
    assert error == (
        "--use encoder: default.toml was trained on the latents of 'pixels', and those of 'waves' are others; "
        "train another bundle with it"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (toml(privacy_filter='use = "pearsn-reid"'),
         "privacy_filter.use: no component named 'pearsn-reid'; did you mean 'pearson-reid'? choose from "
         "max-correlation, needy, pearson-reid"),
        (toml(privacy_filter=OWN + "percentil = 1.0"),
         "privacy_filter.percentil: 'max-correlation' has no such parameter; did you mean 'percentile'? choose from "
         "limits, percentile, width"),
        (toml(privacy_filter=OWN + "width = 3.9"), "privacy_filter.width: wants a whole number, got 3.9 (float)"),
        (toml(privacy_filter=OWN + 'percentile = "5"'), "privacy_filter.percentile: wants a number, got '5' (str)"),
        (toml(privacy_filter=OWN + "percentile = 101"), "privacy_filter.percentile: must be <= 100: 101.0"),
        (toml(privacy_filter=""), "privacy_filter: missing; a plugin set names a component for encoder, image_prior, "
         "privacy_filter, video_animator, stitcher, downstream_validator"),
        (toml(privacy_filter="percentile = 3"), "privacy_filter.use: missing; name the component to use"),
        (toml(privacy_filter="use = 3"), "privacy_filter.use: missing; name the component to use"),
        (toml("filter = 3"), "filter: no such key; did you mean 'privacy_filter'? choose from bundle, downstream_validator, encoder, fps, image_prior, "
         "privacy_filter, sampling, stitcher, video_animator"),
        (toml(encoders='use = "pixels"'), "encoders: no such key; did you mean 'encoder'? choose from bundle, "
         "downstream_validator, encoder, fps, image_prior, privacy_filter, sampling, stitcher, video_animator"),
        (toml("fps = 0"), "fps: wants a positive number up to 100000, got 0"),
        (toml("fps = true"), "fps: wants a positive number up to 100000, got True"),
        (toml("fps = inf"), "fps: wants a positive number up to 100000, got inf"),
        (toml("sampling = { num_frames = -1 }"), "sampling.num_frames: wants a whole number from 1, got -1"),
        (toml("sampling = { num_frames = true }"), "sampling.num_frames: wants a whole number from 1, got True"),
        (toml('sampling = { dtype = "int8" }'),
         "sampling.dtype: wants one of float32, bfloat16, float16, got 'int8'"),
        (toml(f"fps = {'[' * 100}{']' * 100}"), "not valid TOML: more than 64 tables and lists lie in each other"),
        (toml(f"fps = {'[' * 9999}{']' * 9999}"), "not valid TOML: more than 64 tables and lists lie in each other"),
        (toml(privacy_filter=OWN + f"percentile = {'1' * 500}"),
         "privacy_filter.percentile: wants a number of at most 64 bits, got 11111111111111111111..."),
        (toml("bundle = 3"), "bundle: wants the name of a bundle, got 3"),
    ],
    ids=lambda value: None if "[" in value else value[:40],
)  # fmt: skip
def test_a_wrong_plugin_set_is_answered_with_file_key_and_choices(small, text, message):
    def check():
        resolve(small, parsed(text)).build_all(small)

    assert error_of(check) == f"default.toml: {message}"


def test_bad_toml_is_said_with_file_and_line():
    error = error_of(parsed, "[encoder]\nuse = vae\n")
    assert error.startswith("default.toml: not valid TOML: Invalid value (at line 2, column 7)")


def test_an_unknown_plugin_set_is_answered_with_the_choices(registry):
    assert error_of(PluginSet.find, "defualt", registry) == (
        "no plugin set named 'defualt'; did you mean 'default'? choose from default, default-small, default-tiny"
    )


def test_a_file_that_cannot_be_read_is_named(registry, tmp_path):
    missing = tmp_path / "mine.toml"
    assert error_of(PluginSet.find, str(missing), registry, kind=echosdk.InputError) == (
        f"{missing}: cannot be read: No such file or directory"
    )
    missing.write_bytes(b"\xff\xfe\x00")
    assert error_of(PluginSet.find, str(missing), registry, kind=echosdk.InputError).startswith(
        f"{missing}: cannot be read: 'utf-8' codec can't decode"
    )
    nowhere = error_of(PluginSet.find, "foo://mine.toml", registry, kind=echosdk.InputError)
    assert nowhere == "foo://mine.toml: cannot be read: Protocol not known: foo"


def test_a_plugin_set_is_read_from_any_url(registry):
    import fsspec

    with fsspec.open("memory://sets/mine.toml", "wt") as file:
        file.write(toml("fps = 20"))
    found = PluginSet.find("memory://sets/mine.toml", registry)
    assert (found.where, found.fps) == ("mine.toml", 20.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use": ["filter=x"]}, "no kind of component named 'filter'; did you mean 'privacy_filter'? choose from "
         "downstream_validator, encoder, image_prior, privacy_filter, stitcher, video_animator"),
        ({"set_": ["encodr.x=1"]}, "no kind of component named 'encodr'; did you mean 'encoder'? choose from "
         "downstream_validator, encoder, image_prior, privacy_filter, stitcher, video_animator"),
        ({"use": ["encoder"]}, "--use encoder: wants KIND=NAME"),
        ({"set_": ["encoder=x"]}, "--set encoder=x: wants KIND.KEY=VALUE"),
        ({"use": ["encoder.x=y"]}, "--use encoder.x=y: wants KIND=NAME"),
        ({"use": ["encoder=pixel"]}, "--use encoder: no component named 'pixel'; did you mean 'pixels'? choose from "
         "pixels, waves"),
        ({"set_": ["privacy_filter.widht=3"]}, "--set privacy_filter.widht: 'max-correlation' has no such parameter; did "
         "you mean 'width'? choose from limits, percentile, width"),
        ({"set_": ["privacy_filter.width=3.9"]}, "--set privacy_filter.width: wants a whole number, got 3.9 (float)"),
        ({"set_": ["privacy_filter.percentile=yes"]}, "--set privacy_filter.percentile: wants a number, got 'yes' (str)"),
        ({"set_": ["privacy_filter.percentile=-1"]}, "--set privacy_filter.percentile: must be >= 0: -1.0"),
        ({"set_": ["privacy_filter.width.x=1"]}, "--set privacy_filter.width.x: 'width' has no keys of its own"),
    ],
    ids=lambda value: None if isinstance(value, str) else str(value),
)  # fmt: skip
def test_a_wrong_option_is_named(small, options, message):
    assert error_of(resolve, small, parsed(toml()), **options) == message


def test_what_is_written_is_read_back(small):
    resolved = resolve(small, parsed(toml("fps = 24", privacy_filter=OWN + "width = 7")))
    again = PluginSet.from_plain(resolved.to_plain(), where="bundle x")
    assert again.to_plain() == resolved.to_plain()
    plain = {key: value for key, value in resolved.to_plain().items() if key != "encoder"}
    assert error_of(PluginSet.from_plain, plain, where="bundle x").startswith("bundle x: encoder: missing; ")


def test_every_installed_plugin_set_builds(registry):
    for name in registry.names("plugin_set"):
        built = resolve(registry, PluginSet.find(name, registry)).build_all(registry)
        assert set(built) == set(KINDS)


def test_a_source_is_a_name_a_place_and_parameters():
    assert parse_source("phantom") == ("phantom", {})
    assert parse_source("echonet-dynamic:s3://bucket/x?ef_label=EF") == (
        "echonet-dynamic",
        {"location": "s3://bucket/x", "ef_label": "EF"},
    )
    assert parse_source("phantom?patients=4&mirror=true&gain=1.5")[1] == {"patients": 4, "mirror": True, "gain": 1.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("phantm", "phantm: no data source named 'phantm'; did you mean 'phantom'? choose from echonet-dynamic, echonet-pediatric, phantom"),
        ("phantom?patients", "phantom?patients: 'patients' is not KEY=VALUE"),
        ("phantom?patients=3.9", "phantom?patients=3.9: phantom.patients: wants a whole number, got 3.9 (float)"),
        ("phantom?mirror=no", "phantom?mirror=no: phantom.mirror: wants true or false, got 'no' (str)"),
        ("phantom?patients=0", "phantom?patients=0: phantom: patients must be a whole number of at least 1, not 0"),
        ("phantom:/data", "phantom:/data: phantom.location: 'phantom' has no such parameter; choose from first, fps, "
         "frames, gain, mirror, patients, seed, size, speckle, videos"),
        ("echonet-dynamic", "echonet-dynamic: echonet-dynamic.location: 'echonet-dynamic' needs a value"),
    ],
)  # fmt: skip
def test_a_wrong_source_is_named(registry, text, message):
    assert error_of(open_source, registry, text, kind=echosdk.InputError) == message


WRITER = """
    import echosdk
    from attrs import define

    @define
    class Files:
        location: str
        labels = ()
        def clips(self, split): return iter(())
        def fingerprint(self): return self.location
        def write(self, source): return {"train": 0, "val": 0, "test": 0}

    @echosdk.hookimpl
    def echosdk_data_sources():
        yield echosdk.Component(name="files", build=Files, summary="")
"""


def test_the_only_source_that_can_write_is_the_default_layout(registry, make_module):
    assert type(open_layout(registry, "/nowhere")).__name__ == "EchoNetDynamic"
    both = registry.with_modules(make_module("writer", WRITER))
    assert error_of(open_layout, both, "/nowhere", kind=echosdk.InputError) == (
        "--layout: say in which layout to write; choose from echonet-dynamic, files"
    )
    chosen = open_layout(both, "/nowhere", "files")
    assert isinstance(chosen, echosdk.interfaces.WritableLayout)
    assert chosen.location == "/nowhere"


@pytest.mark.parametrize(
    "strange",
    [
        "yield echosdk.Component(name='broken', build=raises, summary='')",
        "yield echosdk.Component(name='broken', build=unreadable, summary='')",
        "yield echosdk.Component(name='broken', build=Clip, summary='')\n"
        "            yield echosdk.Component(name='broken', build=Clip, summary='')",
    ],
    ids=["raises", "unreadable", "clashes"],
)
def test_a_broken_source_keeps_no_other_layout_from_being_the_default(strange, registry, make_module):
    module = make_module(
        "broken",
        f"""
        import echosdk
        from echosdk import Clip

        def raises(location: str):
            raise OSError(f"no archive at {{location}}")

        def unreadable(location: "NotThere"):
            return None

        @echosdk.hookimpl
        def echosdk_data_sources():
            {strange}
        """,
    )
    both = registry.with_modules(module)
    assert "broken" in both.names("data_source")
    assert type(open_layout(both, "/nowhere")).__name__ == "EchoNetDynamic"


def test_a_source_that_cannot_write_is_refused(registry):
    assert error_of(open_layout, registry, "/nowhere", "phantom", kind=echosdk.InputError) == (
        "--layout phantom: this data source can be read, not written"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use": ("stitcher=independent", "stitcher=overlap-blend")},
         "--use stitcher: given twice, as 'independent' and 'overlap-blend'; say it once"),
        ({"set_": ("stitcher.overlap=1", "encoder.channels=1", "stitcher.overlap=2")},
         "--set stitcher.overlap: given twice, as '1' and '2'; say it once"),
    ],
)  # fmt: skip
def test_what_is_said_twice_is_refused(registry, options, message):
    with pytest.raises(echosdk.PluginSetError) as error:
        resolve(registry, PluginSet.find("default-tiny", registry), **options)
    assert str(error.value) == message


@pytest.mark.parametrize("text", ["phantom?seed=1&size=32&seed=2", "phantom:/data?location=/other"])
def test_a_sources_parameter_that_is_said_twice_is_refused(text):
    with pytest.raises(echosdk.InputError, match="is given twice; say it once"):
        parse_source(text)
