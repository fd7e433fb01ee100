"""Plugin sets: one component name, with its parameters, per kind; read from TOML, and which value wins.

```toml
fps = 32.0            # clips are resampled to this rate for training
bundle = "phantom"    # what `generate` uses when no bundle is named (optional)
sampling = { num_frames = 192 }    # what a bundle trained as this set generates when nothing else is said (optional)

[encoder]
use = "vae"
blocks = [128, 256, 256, 512]
```
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, Self

import fsspec
from attrs import evolve, field, frozen
from attrs.validators import instance_of

from echosdk.documents import read_toml
from echosdk.errors import BundleError, InputError, PluginSetError
from echosdk.interfaces import KINDS, WritableLayout
from echosdk.registry import Registry, check_parameters, choose, complete_parameters, default_parameters, parameters_of

MOST_FPS = 100_000

DTYPES = ("float32", "bfloat16", "float16")
SAMPLING = {"num_frames": "a whole number from 1", "dtype": "one of float32, bfloat16, float16"}
"""What a bundle may say of sampling."""


@frozen(kw_only=True)
class Choice:
    """The component chosen for one kind, and its parameters as plain TOML values."""

    use: str = field(validator=instance_of(str))
    parameters: Mapping[str, Any] = field(factory=dict)


@frozen(kw_only=True)
class PluginSet:
    """One choice per kind. `where` is the file's name, for messages."""

    where: str
    choices: Mapping[str, Choice]
    fps: float = 32.0
    bundle: str | None = None
    sampling: Mapping[str, Any] = field(factory=dict)

    @classmethod
    def parse(cls, text: str, where: str) -> Self:
        """Read a plugin set's TOML. Unknown or missing tables and keys are errors that name the file."""
        try:
            table = read_toml(text)
        except ValueError as error:
            raise PluginSetError(f"{where}: not valid TOML: {error}") from error
        fps, bundle, sampling = table.pop("fps", 32.0), table.pop("bundle", None), table.pop("sampling", {})
        fps = read_rate(fps, where)
        if bundle is not None and not isinstance(bundle, str):
            raise PluginSetError(f"{where}: bundle: wants the name of a bundle, got {bundle!r}")
        if not isinstance(sampling, dict):
            raise PluginSetError(f"{where}: sampling: wants a table, got {sampling!r}")
        for key, value in sampling.items():
            if key not in SAMPLING:
                raise PluginSetError(f"{where}: sampling.{key}: no such key; {choose(key, SAMPLING)}")
            if not (value in DTYPES if key == "dtype" else type(value) is int and 1 <= value < 2**63):
                raise PluginSetError(f"{where}: sampling.{key}: wants {SAMPLING[key]}, got {value!r}")
        for key in table:
            if key not in KINDS:
                raise PluginSetError(
                    f"{where}: {key}: no such key; {choose(key, ['fps', 'bundle', 'sampling', *KINDS])}"
                )
        return cls(
            where=where,
            choices={kind: _choice(table, kind, where) for kind in KINDS},
            fps=fps,
            bundle=bundle,
            sampling=sampling,
        )

    @classmethod
    def find(cls, name: str, registry: Registry) -> Self:
        """Find a plugin set by the name under which a plugin offers it, or by the path or URL of its TOML file."""
        location = name if name.endswith(".toml") else registry.resource("plugin_set", name).location
        try:
            with fsspec.open(location, "rt") as file:
                text = file.read()
        except (OSError, ValueError, ImportError) as error:  # not there, not text, no such protocol
            raise InputError(f"{location}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
        return cls.parse(text, where=location.rpartition("/")[2])

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], where: str) -> Self:
        """Read what `to_plain` wrote."""
        choices = {kind: _choice(plain, kind, where) for kind in KINDS}
        return cls(where=where, choices=choices, fps=read_rate(plain["fps"], where), bundle=plain.get("bundle"))

    def to_plain(self) -> dict[str, Any]:
        """Return the plugin set as plain values for JSON."""
        return {"fps": self.fps} | {kind: {"use": c.use, **c.parameters} for kind, c in self.choices.items()}

    def build(self, registry: Registry, kind: str) -> Any:
        """Build one component."""
        choice = self.choices[kind]
        return registry.build(kind, choice.use, choice.parameters, where=f"{self.where}: {kind}")

    def build_all(self, registry: Registry) -> dict[str, Any]:
        """Build every component: this checks all names and parameters before any work is done."""
        return {kind: self.build(registry, kind) for kind in KINDS}


def resolve(
    registry: Registry,
    plugin_set: PluginSet,
    *,
    use: Iterable[str] = (),
    set_: Iterable[str] = (),
    bundle: PluginSet | None = None,
    trained: Iterable[str] = (),
) -> PluginSet:
    """Decide every parameter's value.

    Run parameters: builder's default < bundle < plugin set < `--set`. Shape parameters come from the bundle for the
    `trained` kinds that it holds; `--set` on one of those is an error. `--use` drops the old component's parameters.
    """
    uses = dict(split_options(use, "--use", "KIND=NAME"))
    sets = split_options(set_, "--set", "KIND.KEY=VALUE")
    for kind in [*uses, *(key.partition(".")[0] for key, _ in sets)]:
        if kind not in KINDS:
            raise PluginSetError(f"no kind of component named {kind!r}; {choose(kind, KINDS)}")

    trained = set(trained)
    choices: dict[str, Choice] = {}
    for kind in KINDS:
        own = plugin_set.choices[kind]
        name = uses.get(kind, own.use)
        where = f"--use {kind}" if kind in uses else f"{plugin_set.where}: {kind}.use"
        component = registry.component(kind, name, where)
        stored = bundle.choices[kind] if bundle and bundle.choices[kind].use == name else None
        fixed = set(component.shape) if stored and kind in trained else set()

        values = default_parameters(component)
        if bundle and stored:
            check_parameters(component, stored.parameters, f"{bundle.where}: {kind}")
            values |= stored.parameters
        if name == own.use:
            check_parameters(component, own.parameters, f"{plugin_set.where}: {kind}")
            values |= {key: value for key, value in own.parameters.items() if key not in fixed}
        for key, text in sets:
            target, _, path = key.partition(".")
            if target != kind:
                continue
            if path.partition(".")[0] in fixed:
                raise PluginSetError(
                    f"--set {key}: {path!r} is fixed once {name!r} is trained; the bundle has "
                    f"{values.get(path.partition('.')[0])!r}. Train another bundle to change it"
                )
            assign(values, path, option_value(text, f"--set {key}"), f"--set {key}")
        if any(key.startswith(f"{kind}.") for key, _ in sets):
            registry.build(kind, name, values, f"--set {kind}")
        choices[kind] = Choice(use=name, parameters=complete_parameters(component, values, where.removesuffix(".use")))
        if kind == "encoder" and bundle and bundle.choices[kind].use != name:
            raise BundleError(
                f"{where}: {bundle.where} was trained on the latents of {bundle.choices[kind].use!r}, and those of "
                f"{name!r} are others; train another bundle with it"
            )
    return evolve(plugin_set, choices=choices, fps=bundle.fps if bundle else plugin_set.fps)


def with_settings(kind: str, values: Mapping[str, Any], set_: Iterable[str]) -> dict[str, Any]:
    """Return a component's parameters with what `KIND.KEY=VALUE` says of its kind. Nothing is checked against it."""
    changed = dict(values)
    for key, text in split_options(set_, "--set", "KIND.KEY=VALUE"):
        target, _, path = key.partition(".")
        if target == kind:
            assign(changed, path, option_value(text, f"--set {key}"), f"--set {key}")
    return changed


def parse_source(text: str) -> tuple[str, dict[str, Any]]:
    """Split `NAME[:LOCATION][?key=value&...]` into the source's name and its parameters."""
    head, _, query = text.partition("?")
    name, colon, location = head.partition(":")
    parameters: dict[str, Any] = {"location": location} if colon else {}
    for pair in filter(None, query.split("&")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"{text}: {pair!r} is not KEY=VALUE")
        if key in parameters:
            raise InputError(f"{text}: {key!r} is given twice; say it once")
        parameters[key] = option_value(value, f"{text}: {key}")
    return name, parameters


def open_source(registry: Registry, text: str) -> Any:
    """Build the data source that `NAME[:LOCATION][?key=value&...]` names."""
    name, parameters = parse_source(text)
    registry.offer("data_source", name, where=text)
    return registry.build("data_source", name, parameters, where=f"{text}: {name}")


def open_layout(
    registry: Registry, directory: str, layout: str | None = None, option: str = "--layout"
) -> WritableLayout:
    """Build the data source that writes clips to `directory`: the one that `NAME[?key=value&...]` names.

    Without a name it is the only one installed that can write. `option` is how the user named it, for messages. Raises
    `InputError` where that is not one, and where the one that is named cannot write.
    """
    if layout is None:
        able = [name for name in registry.names("data_source") if _writes(registry, name)]
        if len(able) != 1:
            choices = ", ".join(able) or "(none is installed)"
            raise InputError(f"{option}: say in which layout to write; choose from {choices}")
        layout = able[0]
    name, parameters = parse_source(layout)
    component = registry.component("data_source", name, where=option)
    if "location" in parameters_of(component):
        place = registry.build("data_source", name, {**parameters, "location": directory}, f"{option} {name}")
        if isinstance(place, WritableLayout):
            return place
    raise InputError(f"{option} {name}: this data source can be read, not written")


def _writes(registry: Registry, name: str) -> bool:
    """Say whether a data source has a place and can write to it; what is built is asked, a class or not.

    One that cannot be asked (two plugins offer it, its builder cannot be read, or raises) is no choice: to name it with
    `--layout` says what is wrong with it, and no other layout is kept from being used.
    """
    try:
        if "location" not in parameters_of(registry.component("data_source", name)):
            return False
        return isinstance(registry.build("data_source", name, {"location": "memory://nowhere"}), WritableLayout)
    except Exception:  # a stranger's code may raise anything
        return False


def read_rate(fps: object, where: str) -> float:
    """Return a frame rate as it is written; raises `PluginSetError` where it is none."""
    if type(fps) not in (int, float) or not 0 < fps <= MOST_FPS:  # type: ignore[operator]
        raise PluginSetError(f"{where}: fps: wants a positive number up to {MOST_FPS}, got {fps!r}")
    return float(fps)  # type: ignore[arg-type]


def _choice(table: Mapping[str, Any], kind: str, where: str) -> Choice:
    if kind not in table:
        raise PluginSetError(f"{where}: {kind}: missing; a plugin set names a component for {', '.join(KINDS)}")
    entry = table[kind]
    if not isinstance(entry, dict) or not isinstance(entry.get("use"), str):
        raise PluginSetError(f"{where}: {kind}.use: missing; name the component to use")
    return Choice(use=entry["use"], parameters={key: value for key, value in entry.items() if key != "use"})


def split_option(text: str, option: str, form: str) -> tuple[str, str]:
    """Split `KEY=VALUE`; raises `PluginSetError` where the option is not of its form."""
    key, equals, value = text.partition("=")
    if not equals or not key or ("." in form.partition("=")[0]) != ("." in key):
        raise PluginSetError(f"{option} {text}: wants {form}")
    return key, value


def split_options(texts: Iterable[str], option: str, form: str) -> list[tuple[str, str]]:
    """Split several `KEY=VALUE`; raises `PluginSetError` where two have one key, since none is meant to be ignored."""
    pairs = [split_option(text, option, form) for text in texts]
    values: dict[str, str] = {}
    for key, value in pairs:
        if key in values:
            raise PluginSetError(f"{option} {key}: given twice, as {values[key]!r} and {value!r}; say it once")
        values[key] = value
    return pairs


def option_value(text: str, where: str) -> Any:
    """Read a TOML value; what is none is a text."""
    try:
        return read_toml(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    except ValueError as error:  # a number or a list without end
        raise PluginSetError(f"{where}: {error}") from error


def assign(values: dict[str, Any], path: str, value: Any, where: str) -> None:
    """Set a parameter, or with `KEY.INNER` a key of its table, in a component's parameters."""
    *parents, last = path.split(".")
    for parent in parents:
        inner = values.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise PluginSetError(f"{where}: {parent!r} has no keys of its own")
        values[parent] = values = dict(inner)
    values[last] = value
