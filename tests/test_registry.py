"""Plugins are found, what is wrong with one is said, and none of it breaks the others."""

from __future__ import annotations

import importlib.metadata
from functools import partial

import pytest
from attrs import define

import echosdk
from echosdk import registry as registry_module
from echosdk.plugin_listing import list_offers, show_offers
from echosdk.registry import Plugin, Problem, Registry, complete_parameters, parameters_of

ONE = """
    import echosdk

    class Still:
        window = 16

    @echosdk.hookimpl
    def echosdk_video_animators():
        yield echosdk.Component(name="still", build=Still, summary="Does not move.")
"""
ALPHA = Plugin(name="alpha", distribution="alpha-echo", version="1.2")
BETA = Plugin(name="beta", distribution="beta-echo", version="0.3")


def broken(message):
    def load():
        raise ImportError(message)

    return load


def problem_of(module, make_module):
    """Return the one problem of a plugin's source."""
    registry = Registry.load({ALPHA: lambda: make_module("alpha", module)})
    (problem,) = registry.problems
    assert problem.plugin == ALPHA
    return registry, problem.message


def test_every_kind_of_component_is_installed(registry):
    assert not registry.problems
    for kind in echosdk.interfaces.KINDS:
        assert registry.names(kind), kind
    assert {"default", "default-small", "default-tiny"} <= set(registry.names("plugin_set"))


def test_two_plugins_that_offer_one_name_are_both_named(make_module):
    module = make_module("still", ONE)
    registry = Registry.load({ALPHA: lambda: module, BETA: lambda: module})
    with pytest.raises(echosdk.PluginError) as error:
        registry.build("video_animator", "still", {}, where="default.toml: video_animator")
    assert str(error.value) == (
        "default.toml: video_animator: component 'still' is offered by alpha (alpha-echo 1.2) and beta (beta-echo 0.3); "
        "uninstall one, or ask its author to rename it"
    )
    assert registry.problems == (
        Problem(plugin=BETA, message="offers the component 'still', which alpha (alpha-echo 1.2) offers too"),
    )


def test_a_clash_does_not_keep_other_names_from_being_used(make_module):
    module = make_module("still", ONE)
    other = ONE.replace('"still"', '"other"')
    registry = Registry.load({ALPHA: lambda: module, BETA: lambda: module}).with_modules(make_module("other", other))
    assert registry.build("video_animator", "other", {}).window == 16
    assert len(registry.problems) == 1


def test_a_plugin_that_raises_when_it_is_imported_is_a_problem_and_no_crash(make_module):
    registry = Registry.load(
        {BETA: broken("no module\n  named 'torchvison'"), ALPHA: lambda: make_module("alpha", ONE)}
    )
    assert registry.problems == (
        Problem(plugin=BETA, message="failed to load: ImportError: no module named 'torchvison'"),
    )
    assert registry.build("video_animator", "still", {}).window == 16


def test_a_plugin_that_exits_when_it_is_imported_is_a_problem_and_no_exit():
    def load():
        raise SystemExit(3)

    assert Registry.load({ALPHA: load}).problems[0].message == "failed to load: SystemExit: 3"


def test_a_misspelt_hook_is_named_with_the_nearest(make_module):
    registry, message = problem_of(ONE.replace("echosdk_video_animators", "echosdk_video_animator"), make_module)
    assert message == (
        "implements the hook 'echosdk_video_animator', which does not exist; did you mean 'echosdk_video_animators'? "
        "choose from echosdk_bundles, echosdk_data_sources, echosdk_downstream_validators, echosdk_encoders, "
        "echosdk_feature_extractors, echosdk_image_priors, echosdk_plugin_sets, echosdk_privacy_filters, echosdk_published_layouts, echosdk_stitchers, echosdk_video_animators"
    )
    assert not registry.offers


@pytest.mark.parametrize("forgotten", ["", "class Mine:\n    pass\n"])
def test_a_plugin_without_a_hook_is_a_problem(forgotten, make_module):
    """The mark forgotten, or a class named in the entry point."""
    source = forgotten or ONE.replace("@echosdk.hookimpl\n    ", "")
    module = make_module("alpha", source)
    registry = Registry.load({ALPHA: lambda: module.Mine if forgotten else module})
    (problem,) = registry.problems
    assert problem.message == (
        "implements no hook of echosdk: @echosdk.hookimpl is missing, or the entry point names a class in place of the module"
    )


def test_a_name_that_is_not_found_points_to_the_plugins_that_could_not_be_used(make_module):
    healthy = Registry.load({ALPHA: lambda: make_module("alpha", ONE)})
    with pytest.raises(echosdk.PluginSetError) as error:
        healthy.build("video_animator", "walk", {})
    assert str(error.value).endswith("choose from still")
    with pytest.raises(echosdk.PluginSetError) as error:
        Registry.load({ALPHA: lambda: make_module("alpha", ONE), BETA: broken("x")}).build("video_animator", "walk", {})
    assert str(error.value).endswith("choose from still; some plugins could not be used: echosdk plugins list says why")


def test_a_hook_that_raises_is_a_problem_and_what_it_yielded_before_is_there(make_module):
    registry, message = problem_of(ONE + "        raise OSError(2, 'No such file', 'weights')\n", make_module)
    assert message == ("hook echosdk_video_animators failed: FileNotFoundError: [Errno 2] No such file: 'weights'")
    assert registry.names("video_animator") == ["still"]


def test_a_hook_that_yields_another_type_is_a_problem(make_module):
    source = "import echosdk\n\n@echosdk.hookimpl\ndef echosdk_bundles():\n    yield 'phantom'\n"
    assert problem_of(source, make_module)[1] == (
        "hook echosdk_bundles failed: TypeError: yielded str, not echosdk.Resource"
    )


def test_a_hook_with_an_argument_is_a_problem(make_module):
    message = problem_of(ONE.replace("animators()", "animators(registry)"), make_module)[1]
    assert message.startswith("failed to load: PluginValidationError: ")
    assert "registry" in message
    assert "\n" not in message


def test_a_name_of_another_form_is_a_problem(make_module):
    message = problem_of(ONE.replace('"still"', '"Still_2"'), make_module)[1]
    assert message.startswith("hook echosdk_video_animators failed: ValueError: 'name' must match regex")


def test_a_name_in_shape_that_is_no_parameter_is_a_problem(make_module):
    """Unnoticed, it would leave the parameter that was meant free to change once the component is trained."""
    source = ONE.replace("        window = 16\n", "        def __init__(self, blocks=(8,), window=16): self.window = window\n")
    fits = source.replace("summary=", "shape=('blocks', 'window'), summary=")
    assert not Registry.load({ALPHA: lambda: make_module("alpha", fits)}).problems
    registry, message = problem_of(source.replace("summary=", "shape=('block', 'window'), summary="), make_module)
    assert message == (
        "the component 'still' has 'block' in its shape, which is no parameter of its builder; "
        "did you mean 'blocks'? choose from blocks, window"
    )
    assert registry.build("video_animator", "still", {}).window == 16


@pytest.mark.parametrize(
    ("written_for", "has", "update"), [("", 2, "the plugin"), ("contract=3, ", 2, "echosdk")], ids=["older", "newer"]
)
def test_what_was_written_for_another_contract_is_refused_by_name(
    written_for, has, update, make_module, monkeypatch
):
    monkeypatch.setitem(echosdk.interfaces.CONTRACTS, "video_animator", has)
    registry, message = problem_of(ONE.replace("summary=", f"{written_for}summary="), make_module)
    version = 3 if written_for else 1
    assert message == (
        f"'still' was written for version {version} of the video animator contract, and this echosdk has version 2; "
        f"update {update}"
    )
    with pytest.raises(echosdk.PluginError) as error:
        registry.build("video_animator", "still", {}, where="--use video_animator")
    assert str(error.value) == f"--use video_animator: alpha (alpha-echo 1.2): {message}"


def test_plugins_are_found_by_their_entry_point(monkeypatch):
    """One that works and one that does not, through importlib.metadata itself."""
    points = [
        importlib.metadata.EntryPoint(name="stitch", value="echosdk_stitch", group="echosdk"),
        importlib.metadata.EntryPoint(name="gone", value="no_such_module", group="echosdk"),
    ]
    monkeypatch.setattr(registry_module, "entry_points", lambda group: [p for p in points if p.group == group])
    registry = Registry.discover()
    assert "overlap-discard" in registry.names("stitcher")
    assert [problem.message for problem in registry.problems] == [
        "failed to load: ModuleNotFoundError: No module named 'no_such_module'"
    ]


def test_an_unknown_name_is_answered_with_the_nearest_and_the_choices(registry):
    with pytest.raises(echosdk.PluginSetError) as error:
        registry.component("privacy_filter", "pearsn-reid", where="default.toml: privacy_filter.use")
    assert str(error.value) == (
        "default.toml: privacy_filter.use: no component named 'pearsn-reid'; did you mean 'pearson-reid'? "
        "choose from pearson-reid, pixel-correlation"
    )


def test_nothing_installed_is_said_as_such():
    with pytest.raises(echosdk.PluginSetError) as error:
        Registry(()).component("encoder", "vae")
    assert str(error.value) == "no component named 'vae'; choose from (none is installed)"


@define
class Tunable:
    steps: int = 3
    scale: float = 1.0
    fast: bool = False
    name: str = "a"
    blocks: tuple[int, ...] = (8, 8)
    pair: tuple[int, str] = (1, "x")
    limits: dict[str, float] | None = None
    _learnt: int = 0


TUNABLE = echosdk.Component(name="tunable", build=Tunable, summary="For tests.", shape=("blocks",))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"steps": 3.9}, "steps: wants a whole number, got 3.9 (float)"),
        ({"steps": True}, "steps: wants a whole number, got True (bool)"),
        ({"steps": "3"}, "steps: wants a whole number, got '3' (str)"),
        ({"scale": "1"}, "scale: wants a number, got '1' (str)"),
        ({"scale": False}, "scale: wants a number, got False (bool)"),
        ({"fast": "false"}, "fast: wants true or false, got 'false' (str)"),
        ({"fast": 0}, "fast: wants true or false, got 0 (int)"),
        ({"name": 3}, "name: wants a text, got 3 (int)"),
        ({"blocks": 8}, "blocks: wants a list, each a whole number, got 8 (int)"),
        ({"blocks": "88"}, "blocks: wants a list, each a whole number, got '88' (str)"),
        ({"blocks": [8, 8.5]}, "blocks: wants a whole number, got 8.5 (float)"),
        ({"pair": [1]}, "pair: wants a list of 2, got [1] (list)"),
        ({"limits": {"low": "x"}}, "limits.low: wants a number, got 'x' (str)"),
        ({"limits": 3}, "limits: wants a table, got 3 (int)"),
        (
            {"stepz": 3},
            "stepz: 'tunable' has no such parameter; did you mean 'steps'? choose from blocks, fast, learnt, "
            "limits, name, pair, scale, steps",
        ),
    ],
    ids=str,
)
def test_values_are_not_coerced(parameters, message):
    with pytest.raises(echosdk.PluginSetError) as error:
        complete_parameters(TUNABLE, parameters, where="mine.toml: stitcher")
    assert str(error.value) == f"mine.toml: stitcher.{message}"


def test_a_whole_number_is_a_number_and_a_list_a_tuple():
    values = complete_parameters(TUNABLE, {"scale": 2, "blocks": [4, 4], "limits": {"low": 1}})
    assert type(values["scale"]) is float
    assert values["blocks"] == [4, 4]
    assert values["limits"] == {"low": 1.0}


def test_keys_inside_a_table_are_named_whole(registry):
    for wrong, message in (
        (
            {"stps": 3},
            "recipe.stps: no such key; did you mean 'steps'? choose from batch_size, checkpoint_every, decay, "
            "decay_every, decay_factor, ema_decay, learning_rate, max_grad_norm, optimizer, steps, warmup_steps, weight_decay",
        ),
        ({"steps": 3.9}, "recipe.steps: wants a whole number, got 3.9 (float)"),
        (
            {"decay": "cosin"},
            "recipe.decay: no such value 'cosin'; did you mean 'cosine'? choose from constant, cosine, step",
        ),
        ({"steps": 0}, "recipe: 'steps' must be >= 1: 0"),
    ):
        with pytest.raises(echosdk.PluginSetError) as error:
            registry.build("image_prior", "lidm", {"recipe": wrong}, where="a.toml: image_prior")
        assert str(error.value) == f"a.toml: image_prior.{message}"


def test_a_value_outside_of_its_range_is_named_with_the_range(registry):
    with pytest.raises(echosdk.PluginSetError) as error:
        registry.build("privacy_filter", "pearson-reid", {"percentile": 200}, where="a.toml: privacy_filter")
    assert str(error.value) == "a.toml: privacy_filter.percentile: must be < 100: 200.0"


def test_a_parameter_without_a_default_must_be_given():
    @define
    class Needy:
        location: str

    needy = echosdk.Component(name="needy", build=Needy, summary="For tests.")
    with pytest.raises(echosdk.PluginSetError) as error:
        complete_parameters(needy, {}, where="a.toml: encoder")
    assert str(error.value) == "a.toml: encoder.location: 'needy' needs a value"


def test_a_function_or_a_partial_builds_too():
    def build(steps: int = 4, **_rest: object) -> Tunable:
        return Tunable(steps=steps)

    by_function = parameters_of(echosdk.Component(name="f", build=build, summary=""))
    assert {name: p.default for name, p in by_function.items()} == {"steps": 4}
    by_partial = parameters_of(echosdk.Component(name="p", build=partial(Tunable, steps=9), summary=""))
    assert by_partial["steps"].default == 9
    assert by_partial["steps"].annotation is int


def test_a_plain_class_is_checked_by_its_constructor():
    class Plain:
        steps: str

        def __init__(self, steps: int = 3):
            self.steps = str(steps)

    plain = echosdk.Component(name="plain", build=Plain, summary="")
    assert complete_parameters(plain, {}) == {"steps": 3}
    with pytest.raises(echosdk.PluginSetError, match=r"^steps: wants a whole number, got '3' \(str\)$"):
        complete_parameters(plain, {"steps": "3"})


def test_a_private_field_may_name_what_is_imported_for_checking_only(make_module):
    source = """
        from __future__ import annotations
        from attrs import define, field

        @define
        class Lazy:
            steps: int = 3
            _weights: torch.Tensor | None = field(init=False, default=None)
    """
    lazy = echosdk.Component(name="lazy", build=make_module("lazy", source).Lazy, summary="")
    assert parameters_of(lazy)["steps"].annotation is int


def test_annotations_that_cannot_be_read_are_the_plugins_fault(make_module):
    module = make_module(
        "a", "from __future__ import annotations\n\nclass A:\n    def __init__(self, x: torch.Tensor): pass"
    )
    hidden = echosdk.Component(name="hidden", build=lambda x: x, summary="")
    assert parameters_of(hidden)["x"].required
    unreadable = echosdk.Component(name="unreadable", build=module.A, summary="")
    with pytest.raises(echosdk.PluginError) as error:
        parameters_of(unreadable)
    assert str(error.value) == (
        "'unreadable': the parameters of its builder cannot be read: name 'torch' is not defined; "
        "what its annotations name must be there at run time"
    )


def test_the_listing_follows_the_protocol_and_names_every_plugin(registry):
    listing = list_offers(registry)
    offers = [(offer["kind"], offer["name"]) for offer in listing["offers"]]
    assert [name for kind, name in offers if kind in echosdk.interfaces.KINDS] == [
        "identity", "vae", "vae-tiny", "bootstrap-noise", "lidm", "pearson-reid", "pixel-correlation", "lvdm", "static",
        "independent", "overlap-blend", "overlap-discard", "category-classifier", "ef-regressor",
    ]  # fmt: skip
    assert [*dict.fromkeys(kind for kind, _ in offers)] == [*echosdk.hookspecs.HOOKS]
    assert all(offer["distribution"] == "echosdk" and offer["version"] for offer in listing["offers"])
    assert listing["problems"] == []


def test_a_component_is_shown_with_its_parameters(registry):
    (shown,) = show_offers(registry, "pearson-reid")
    rows = {row["name"]: row for row in shown["parameters"]}
    assert rows["percentile"] == {
        "name": "percentile", "type": "a number", "default": 5.0, "required": False, "role": "run",
    }  # fmt: skip
    assert rows["architecture"]["type"] == "'resnet50' or 'small'"
    assert rows["recipe.optimizer"]["role"] == "shape"
    assert rows["recipe.steps"]["default"] == 60_000


def test_a_name_that_several_kinds_offer_is_shown_for_each(registry, make_module):
    source = """
        import echosdk

        class Still:
            pass

        @echosdk.hookimpl
        def echosdk_stitchers():
            yield echosdk.Component(name="phantom", build=Still, summary="Another kind.")
    """
    both = registry.with_modules(make_module("more", source))
    assert not both.problems
    assert {shown["kind"] for shown in show_offers(both, "phantom")} >= {"stitcher", "data_source"}
    assert [shown["kind"] for shown in show_offers(both, "phantom", kind="stitcher")] == ["stitcher"]


def test_a_plugin_set_is_shown_with_its_place(registry):
    (shown,) = show_offers(registry, "default")
    assert shown["location"].endswith("default.toml")
    assert "parameters" not in shown


def test_an_unknown_name_or_kind_is_not_shown(registry):
    with pytest.raises(echosdk.PluginSetError, match=r"^no encoder named 'lvdm'; choose from identity, vae, vae-tiny$"):
        show_offers(registry, "lvdm", kind="encoder")
    with pytest.raises(
        echosdk.PluginSetError, match=r"^--kind: no kind named 'encoders'; did you mean 'encoder'\? choose"
    ):
        show_offers(registry, "vae", kind="encoders")


@pytest.mark.parametrize("raised", ["KeyError('feature')", "TypeError('no len')", "SystemExit(0)", "OSError('no disk')"])
def test_whatever_a_builder_raises_is_an_error_that_names_its_plugin(make_module, raised):
    module = make_module(
        "broken",
        f"""
        import echosdk

        def build(size: int = 1):
            raise {raised}

        @echosdk.hookimpl
        def echosdk_stitchers():
            yield echosdk.Component(name="broken-one", build=build, summary="")
        """,
    )
    with pytest.raises(echosdk.PluginError) as error:
        Registry.of(module).build("stitcher", "broken-one", {"size": 2}, where="a.toml: stitcher")
    assert str(error.value).startswith("a.toml: stitcher: 'broken-one' of broken (module 0) could not be built: ")
    assert raised.partition("(")[0] in str(error.value)


def test_an_error_of_echosdk_in_a_builder_is_left_as_it_is(make_module):
    module = make_module(
        "lacking",
        """
        import echosdk

        def build():
            raise echosdk.DataError("run: pip install film")

        @echosdk.hookimpl
        def echosdk_data_sources():
            yield echosdk.Component(name="film", build=build, summary="")
        """,
    )
    with pytest.raises(echosdk.DataError, match=r"^run: pip install film$"):
        Registry.of(module).build("data_source", "film", {})
