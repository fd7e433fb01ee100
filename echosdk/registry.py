"""Discover plugins, say what they offer and what is wrong with them, and build components by name.

A registry is a value: nothing is global, and tests make their own from modules.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Literal, Self, get_type_hints

import attrs
import pluggy
from attrs import field, frozen

from echosdk import hookspecs
from echosdk.errors import EchoError, PluginError, PluginSetError
from echosdk.hookspecs import HOOKS, Offered, Resource
from echosdk.interfaces import CONTRACTS, KINDS, Component
from echosdk.parameter_values import plain_value, read_value

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

    offers: tuple[Offer, ...] = field(converter=tuple[Offer, ...])
    problems: tuple[Problem, ...] = field(converter=tuple[Problem, ...], default=())

    @classmethod
    def discover(cls) -> Self:
        """Load every plugin of the entry-point group `echosdk`; a plugin that fails to load becomes a problem."""
        points = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: (_distribution(point), point.name))
        return cls.load({_plugin(point): point.load for point in points})

    @classmethod
    def of(cls, *modules: ModuleType) -> Self:
        """Make a registry of modules, as tests and notebooks do."""
        return cls.load(
            {
                Plugin(name=module.__name__, distribution="module", version="0"): functools.partial(_itself, module)
                for module in modules
            }
        )

    def with_modules(self, *modules: ModuleType) -> Self:
        """Return a registry that offers what modules offer too."""
        more = type(self).of(*modules)
        offers = [*self.offers, *more.offers]
        return type(self)(offers, dict.fromkeys([*self.problems, *more.problems, *_clashes(offers)]))

    @classmethod
    def load(cls, loaders: Mapping[Plugin, Callable[[], object]]) -> Self:
        """Make a registry of plugins that are loaded by calling."""
        offers: list[Offer] = []
        problems: list[Problem] = []
        for plugin, loader in loaders.items():
            try:
                found, wrong = _collect(plugin, loader())
            except (Exception, SystemExit) as error:  # a stranger's code: whatever it raises is reported, never a crash
                problems.append(Problem(plugin=plugin, message=f"failed to load: {_named(error)}"))
                continue
            offers += found
            problems += [Problem(plugin=plugin, message=message) for message in wrong]
        problems += _clashes(offers)
        return cls(offers, problems)

    def names(self, kind: str) -> list[str]:
        """Return the names on offer for a kind, sorted."""
        return sorted({offer.item.name for offer in self.offers if offer.kind == kind})

    def offer(self, kind: str, name: str, where: str = "") -> Offer:
        """Find what is offered under a name.

        Raises `PluginSetError` where there is none, `PluginError` where two plugins offer it, or it was written for
        another version of the contract.
        """
        found = [offer for offer in self.offers if offer.kind == kind and offer.item.name == name]
        if not found:
            broken = "; some plugins could not be used: echosdk plugins list says why" if self.problems else ""
            choices = choose(name, self.names(kind))
            raise PluginSetError(f"{_at(where)}no {_words(kind)} named {name!r}; {choices}{broken}")
        if len(found) > 1:
            both = " and ".join(str(offer.plugin) for offer in found)
            advice = "uninstall one, or ask its author to rename it"
            raise PluginError(f"{_at(where)}{_words(kind)} {name!r} is offered by {both}; {advice}")
        if other := _other_contract(kind, found[0].item):
            raise PluginError(f"{_at(where)}{found[0].plugin}: {other}")
        return found[0]

    def component(self, kind: str, name: str, where: str = "") -> Component[Any]:
        """Find a component or data source by name; raises as `offer` does."""
        item = self.offer(kind, name, where).item
        assert isinstance(item, Component)
        return item

    def resource(self, kind: Literal["plugin_set", "bundle"], name: str) -> Resource:
        """Find a plugin set or bundle by name; raises as `offer` does."""
        item = self.offer(kind, name).item
        assert isinstance(item, Resource)
        return item

    def build(self, kind: str, name: str, parameters: Mapping[str, Any], where: str = "") -> Any:
        """Build a component; wrong keys and values are errors that name file, key and choices.

        Whatever else its builder raises is a `PluginError` that names plugin and distribution.
        """
        component = self.component(kind, name, where)
        checked = check_parameters(component, parameters, where)
        refuse_missing(component, parameters, where)
        try:
            return component.build(**checked)
        except EchoError:
            raise
        except (Exception, SystemExit) as error:  # a stranger's code
            key, message = _key_of(_one_line(error), checked)
            if isinstance(error, ValueError) or (isinstance(error, TypeError) and key):  # of a validator
                raise PluginSetError(f"{_at(where, key)}{message.removeprefix(f'{name}: ')}") from error
            plugin = self.offer(kind, name, where).plugin
            raise PluginError(f"{_at(where)}{name!r} of {plugin} could not be built: {_named(error)}") from error


@frozen(kw_only=True)
class Parameter:
    """One parameter of a component's builder, as `echosdk plugins show` prints it."""

    name: str
    annotation: Any
    default: Any
    shape: bool

    @property
    def required(self) -> bool:
        """Say whether it must be given, having no default."""
        return self.default is inspect.Parameter.empty


def parameters_of(component: Component[Any]) -> dict[str, Parameter]:
    """Return a component's parameters in the order of its builder.

    Raises `PluginError` where the builder's signature or annotations cannot be read.
    """
    build = component.build
    code: Any = build.func if isinstance(build, functools.partial) else build
    try:
        signature = inspect.signature(build)
        hints = _hints(code)
    except (ValueError, TypeError, NameError) as error:
        raise PluginError(
            f"{component.name!r}: the parameters of its builder cannot be read: {_one_line(error)}; "
            "what its annotations name must be there at run time"
        ) from error
    attributes = attrs.fields(code) if inspect.isclass(code) and attrs.has(code) else ()
    fields = {(one.alias or one.name): one for one in attributes if one.init}
    result = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = parameter.default
        if name in fields and isinstance(fields[name].default, attrs.Factory):  # type: ignore[arg-type]
            factory = fields[name].default
            default = None if factory.takes_self else factory.factory()
        annotation = hints.get(name, Any)
        result[name] = Parameter(name=name, annotation=annotation, default=default, shape=name in component.shape)
    return result


def check_parameters(component: Component[Any], parameters: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Check keys and types of parameters against the builder's annotations. Scalars are not coerced."""
    known = parameters_of(component)
    checked = {}
    for key, value in parameters.items():
        if key not in known:
            raise PluginSetError(f"{_at(where, key)}{component.name!r} has no such parameter; {choose(key, known)}")
        checked[key] = read_value(value, known[key].annotation, f"{where}.{key}" if where else key, choose)
    return checked


def refuse_missing(component: Component[Any], parameters: Mapping[str, Any], where: str = "") -> None:
    """Raise where a parameter without a default has no value."""
    for name, parameter in parameters_of(component).items():
        if parameter.required and name not in parameters:
            raise PluginSetError(f"{_at(where, name)}{component.name!r} needs a value")


def default_parameters(component: Component[Any]) -> dict[str, Any]:
    """Return the builder's defaults as plain TOML values; TOML has none for None."""
    values = {p.name: plain_value(p.default) for p in parameters_of(component).values() if not p.required}
    return {name: value for name, value in values.items() if value is not None}


def complete_parameters(component: Component[Any], parameters: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Return the parameters together with the builder's defaults, as plain TOML values."""
    checked = check_parameters(component, parameters, where)
    refuse_missing(component, parameters, where)
    values = default_parameters(component) | {key: plain_value(value) for key, value in checked.items()}
    return {name: values[name] for name in parameters_of(component) if values.get(name) is not None}


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
    callers = manager.get_hookcallers(module)
    if not callers:
        problems.append(
            "implements no hook of echosdk: @echosdk.hookimpl is missing, or the entry point names a class in place of "
            "the module"
        )
    for caller in callers or ():
        if not caller.has_spec():
            nearest = choose(caller.name, HOOKS.values())
            problems.append(f"implements the hook {caller.name!r}, which does not exist; {nearest}")
    for kind, hook in HOOKS.items():
        try:
            for yielded in getattr(manager.hook, hook)():
                for item in yielded:
                    wanted = Resource if kind in ("plugin_set", "bundle") else Component
                    if not isinstance(item, wanted):
                        raise TypeError(f"yielded {type(item).__name__}, not echosdk.{wanted.__name__}")
                    offers.append(Offer(kind=kind, item=item, plugin=plugin))
                    problems += [*_unknown_shape(item), *filter(None, [_other_contract(kind, item)])]
        except Exception as error:
            problems.append(f"hook {hook} failed: {_named(error)}")
    return offers, problems


def _unknown_shape(item: Offered) -> list[str]:
    """Say which names in a component's `shape` are no parameters of its builder: they would fix nothing."""
    if not isinstance(item, Component):
        return []
    try:
        known = [*inspect.signature(item.build).parameters]
    except (ValueError, TypeError):  # whoever asks for its parameters is told
        return []
    return [
        f"the component {item.name!r} has {name!r} in its shape, which is no parameter of its builder; "
        f"{choose(name, known)}"
        for name in item.shape
        if name not in known
    ]


def _other_contract(kind: str, item: Offered) -> str:
    """Say that a component was written for another version of its contract, and what to do; nothing where it fits."""
    if not isinstance(item, Component) or item.contract == CONTRACTS[kind]:
        return ""
    older = item.contract < CONTRACTS[kind]
    return (
        f"{item.name!r} was written for version {item.contract} of the {kind.replace('_', ' ')} contract, and this "
        f"echosdk has version {CONTRACTS[kind]}; update {'the plugin' if older else 'echosdk'}"
    )


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
    return "component" if kind in KINDS else kind.replace("_", " ")


def _at(where: str, key: str = "") -> str:
    place = f"{where}.{key}" if where and key else where or key
    return f"{place}: " if place else ""


def _hints(build: Any) -> dict[str, Any]:
    """Return the annotations of a builder's parameters only: a private field may name what is not there."""
    if not inspect.isclass(build):
        return get_type_hints(build if inspect.isroutine(build) else type(build).__call__)
    init: Any = build.__init__
    names = dict(getattr(init, "__globals__", {}))
    for base in reversed(build.__mro__):
        names |= vars(sys.modules[base.__module__]) if base.__module__ in sys.modules else {}
    return get_type_hints(init, globalns=names)


def _itself(module: ModuleType) -> ModuleType:
    return module


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {_one_line(error)}"


def _one_line(error: BaseException) -> str:
    """Return an error's text. Those of attrs' validators carry more arguments than the message."""
    text = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    return " ".join(text.split())


def _key_of(message: str, keys: Iterable[str]) -> tuple[str, str]:
    """Split attrs' `'key' must be ...` into the key and the rest; a message of another form has no key."""
    _, key, rest = message.split("'", 2) if message.count("'") > 1 else ("", "", message)
    return (key, rest.strip()) if key in keys and message.startswith("'") else ("", message)
