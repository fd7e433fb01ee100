"""Discover plugins, say what they offer and what is wrong with them, and build components by name.

A registry is a value: nothing is global, and tests make their own from modules.
"""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Literal, Self, get_type_hints

import attrs
import cattrs
import pluggy
from attrs import field, frozen

from echosdk import hookspecs
from echosdk.errors import PluginError, PluginSetError
from echosdk.hookspecs import HOOKS, Offered, Resource
from echosdk.interfaces import Component
from echosdk.torchvision_operators import define_missing_operators

ENTRY_POINT_GROUP = "echosdk"


@frozen(kw_only=True)
class Plugin:
    """One installed plugin: its entry point's name and the distribution it came with."""

    name: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution} {self.version})"


@frozen(kw_only=True)
class Offer:
    """One thing that one plugin offers."""

    kind: str
    item: Offered
    plugin: Plugin


@frozen(kw_only=True)
class Problem:
    """What is wrong with a plugin, in a line."""

    plugin: Plugin
    message: str


@frozen
class Registry:
    """What the installed plugins offer: `offers`, and their `problems`."""

    offers: tuple[Offer, ...] = field(converter=tuple)
    problems: tuple[Problem, ...] = field(converter=tuple, default=())

    @classmethod
    def discover(cls) -> Self:
        """Load every plugin of the entry-point group `echosdk`; a plugin that fails to load becomes a problem."""
        points = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: (_distribution(point), point.name))
        define_missing_operators()
        return cls.load({_plugin(point): point.load for point in points})

    @classmethod
    def of(cls, *modules: ModuleType) -> Self:
        """Make a registry of modules, as tests and notebooks do."""
        return cls.load(
            {
                Plugin(name=module.__name__, distribution="module", version="0"): (lambda module=module: module)
                for module in modules
            }
        )

    @classmethod
    def load(cls, loaders: Mapping[Plugin, Callable[[], object]]) -> Self:
        """Make a registry of plugins that are loaded by calling."""
        offers: list[Offer] = []
        problems: list[Problem] = []
        for plugin, loader in loaders.items():
            try:
                found, wrong = _collect(plugin, loader())
            except Exception as error:  # a stranger's code: whatever it raises is reported, never a crash
                problems.append(Problem(plugin=plugin, message=f"failed to load: {type(error).__name__}: {error}"))
                continue
            offers += found
            problems += [Problem(plugin=plugin, message=message) for message in wrong]
        problems += _clashes(offers)
        return cls(tuple(offers), tuple(problems))

    def names(self, kind: str) -> list[str]:
        """Return the names on offer for a kind, sorted."""
        return sorted({offer.item.name for offer in self.offers if offer.kind == kind})

    def offer(self, kind: str, name: str, where: str = "") -> Offer:
        """Find what is offered under a name.

        Raises `PluginSetError` where there is none, `PluginError` where two plugins offer it.
        """
        found = [offer for offer in self.offers if offer.kind == kind and offer.item.name == name]
        if not found:
            raise PluginSetError(f"{_at(where)}no {_words(kind)} named {name!r}; {choose(name, self.names(kind))}")
        if len(found) > 1:
            both = " and ".join(str(offer.plugin) for offer in found)
            raise PluginError(
                f"{_at(where)}{_words(kind)} {name!r} is offered by {both}; uninstall one, or ask its author to rename it"
            )
        return found[0]

    def component(self, kind: str, name: str, where: str = "") -> Component[Any]:
        item = self.offer(kind, name, where).item
        assert isinstance(item, Component)
        return item

    def resource(self, kind: Literal["plugin_set", "bundle"], name: str) -> Resource:
        item = self.offer(kind, name).item
        assert isinstance(item, Resource)
        return item

    def build(self, kind: str, name: str, parameters: Mapping[str, Any], where: str = "") -> Any:
        """Build a component; wrong keys and values are errors that name file, key and choices."""
        component = self.component(kind, name, where)
        checked = check_parameters(component, parameters, where)
        try:
            return component.build(**checked)
        except (ValueError, TypeError) as error:
            raise PluginSetError(f"{_at(where)}{name}: {_one_line(error)}") from error


@frozen(kw_only=True)
class Parameter:
    """One parameter of a component's builder, as `echosdk plugins show` prints it."""

    name: str
    annotation: Any
    default: Any
    shape: bool

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty


def parameters_of(component: Component[Any]) -> dict[str, Parameter]:
    """Return a component's parameters in the order of its builder."""
    build = component.build
    hints = get_type_hints(build if inspect.isclass(build) or inspect.isfunction(build) else type(build).__call__)
    defaults = {
        (attribute.alias or attribute.name): attribute for attribute in attrs.fields(build) if attribute.init
    } if inspect.isclass(build) and attrs.has(build) else {}
    result = {}
    for name, parameter in inspect.signature(build).parameters.items():
        attribute = defaults.get(name)
        annotation = hints.get(attribute.name if attribute else name, Any)
        default = parameter.default
        if attribute is not None and isinstance(attribute.default, attrs.Factory):  # type: ignore[arg-type]
            default = attribute.default.factory()
        result[name] = Parameter(
            name=name, annotation=annotation, default=default, shape=name in component.shape
        )
    return result


def check_parameters(component: Component[Any], parameters: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Check keys and types of parameters against the builder's annotations. Scalars are not coerced."""
    known = parameters_of(component)
    checked = {}
    for key, value in parameters.items():
        if key not in known:
            raise PluginSetError(
                f"{_at(where, key)}{component.name!r} has no such parameter; {choose(key, list(known))}"
            )
        try:
            checked[key] = _STRICT.structure(value, known[key].annotation)
        except cattrs.errors.ForbiddenExtraKeysError as error:
            extra = sorted(error.extra_fields)[0]
            names = [a.alias or a.name for a in attrs.fields(error.cl)]
            raise PluginSetError(f"{_at(where, f'{key}.{extra}')}no such key; {choose(extra, names)}") from error
        except Exception as error:
            raise PluginSetError(f"{_at(where, key)}{_one_line(error)}") from error
    missing = [name for name, parameter in known.items() if parameter.required and name not in parameters]
    if missing:
        raise PluginSetError(f"{_at(where, missing[0])}{component.name!r} needs a value")
    return checked


def complete_parameters(component: Component[Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters together with the builder's defaults, as plain TOML values."""
    checked = check_parameters(component, parameters)
    values = {p.name: checked.get(p.name, p.default) for p in parameters_of(component).values()}
    plain: dict[str, Any] = _STRICT.unstructure(values)
    return {key: value for key, value in plain.items() if value is not None}


def choose(name: str, choices: Iterable[str]) -> str:
    """Say what the choices are, and the nearest one where it is near."""
    choices = sorted(choices)
    near = difflib.get_close_matches(name, choices, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}choose from {', '.join(choices) or '(none is installed)'}"


def _collect(plugin: Plugin, module: object) -> tuple[list[Offer], list[str]]:
    manager = pluggy.PluginManager("echosdk")
    manager.add_hookspecs(hookspecs)
    manager.register(module)
    offers: list[Offer] = []
    problems: list[str] = []
    for caller in manager.get_hookcallers(module) or ():
        if not caller.has_spec():
            problems.append(f"implements the hook {caller.name!r}, which does not exist; {choose(caller.name, HOOKS.values())}")
    for kind, hook in HOOKS.items():
        try:
            for yielded in getattr(manager.hook, hook)():
                for item in yielded:
                    wanted = Resource if kind in ("plugin_set", "bundle") else Component
                    if not isinstance(item, wanted):
                        raise TypeError(f"yielded {type(item).__name__}, not echosdk.{wanted.__name__}")
                    offers.append(Offer(kind=kind, item=item, plugin=plugin))
        except Exception as error:
            problems.append(f"hook {hook} failed: {type(error).__name__}: {error}")
    return offers, problems


def _clashes(offers: list[Offer]) -> list[Problem]:
    first: dict[tuple[str, str], Offer] = {}
    problems = []
    for offer in offers:
        earlier = first.setdefault((offer.kind, offer.item.name), offer)
        if earlier is not offer:
            message = f"offers the {_words(offer.kind)} {offer.item.name!r}, which {earlier.plugin} offers too"
            problems.append(Problem(plugin=offer.plugin, message=message))
    return problems


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else ""


def _plugin(point: EntryPoint) -> Plugin:
    return Plugin(name=point.name, distribution=_distribution(point), version=point.dist.version if point.dist else "")


def _words(kind: str) -> str:
    return "component" if kind in typing.cast(tuple[str, ...], tuple(HOOKS)[:6]) else kind.replace("_", " ")


def _at(where: str, key: str = "") -> str:
    place = f"{where}.{key}" if where and key else where or key
    return f"{place}: " if place else ""


def _one_line(error: BaseException) -> str:
    text = str(error.args[0]) if error.args else str(error)
    return " ".join(text.split())


def _strict(*accepted: type) -> Callable[[Any, Any], Any]:
    def structure(value: Any, wanted: Any) -> Any:
        if type(value) not in accepted:
            raise TypeError(f"wants {_type_name(wanted)}, got {value!r} ({type(value).__name__})")
        return wanted(value)

    return structure


def _type_name(wanted: type) -> str:
    names: dict[type, str] = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    return names.get(wanted, wanted.__name__)


_STRICT = cattrs.Converter(forbid_extra_keys=True, detailed_validation=False)
_STRICT.register_structure_hook(int, _strict(int))
_STRICT.register_structure_hook(float, _strict(float, int))
_STRICT.register_structure_hook(str, _strict(str))
_STRICT.register_structure_hook(bool, _strict(bool))
