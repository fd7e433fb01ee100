"""Run the contract tests on what an installed package offers."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast
from xml.etree import ElementTree

from attrs import field, frozen

from echosdk.errors import PluginError, PluginSetError
from echosdk.hookspecs import Resource
from echosdk.interfaces import CONTRACTS, Component
from echosdk.plugin_set import PluginSet, with_settings
from echosdk.registry import Offer, Registry, choose, default_parameters, parameters_of
from echosdk.testing import CONTRACTS as CLASSES
from echosdk.training.recipe import Recipe

Outcome = Literal["passed", "failed", "skipped"]

QUICK = {"steps": 2, "batch_size": 4}
"""What of every recipe is another: no contract asks how well something was learnt."""
LONGEST_MESSAGE = 240

MODULE = """\
import echosdk
from echosdk import testing

registry = echosdk.Registry.discover()
"""
CLASS = """

class Test{number}(testing.{contract}):
    def build(self):
        return registry.build({kind!r}, {name!r}, {parameters!r})

"""
KNOWN_BY_ITSELF = {
    "privacy_filter": "    shape = (1, 32, 32) if registry.build({kind!r}, {name!r}, {parameters!r}).space == 'image' "
    "else (4, 16, 16)\n",
    "video_animator": "    reads_labels = None\n",
}
"""What a contract's class is told by its author, and is not known here."""


@frozen(kw_only=True)
class Check:
    """One thing that was asked of one component; `message` says why it failed or was skipped."""

    kind: str
    name: str
    test: str
    outcome: Outcome
    message: str = ""


@frozen(kw_only=True)
class Checked:
    """What was asked of a package, and what came of it."""

    package: str
    checks: tuple[Check, ...] = field(converter=tuple[Check, ...])

    @property
    def ok(self) -> bool:
        """Say whether something was asked and nothing failed."""
        outcomes = {check.outcome for check in self.checks}
        return "passed" in outcomes and "failed" not in outcomes


def check_package(
    registry: Registry,
    package: str,
    *,
    plugin_set: PluginSet | None = None,
    set_: Sequence[str] = (),
    report: Callable[[str], None] = lambda line: None,
) -> Checked:
    """Ask every contract test of every component and data source that a package offers.

    `package` is the name of a distribution or of a plugin. A component is built with its defaults, with what the plugin
    set says of it, and with `set_` (`KIND.KEY=VALUE`, for those that have the parameter); recipes are cut to a few
    steps. What is wrong with the plugin before any test counts as failed. The tests run in a process of their own,
    which discovers the plugins again; `report` is told whose turn it is.

    Raises `PluginSetError` where nothing of that name is installed, it offers nothing to check, or a setting is of none
    of its components.
    """
    offers = [offer for offer in registry.offers if package in (offer.plugin.distribution, offer.plugin.name)]
    problems = [each for each in registry.problems if package in (each.plugin.distribution, each.plugin.name)]
    if not offers and not problems:
        plugins = {offer.plugin for offer in registry.offers} | {each.plugin for each in registry.problems}
        known = {name for plugin in plugins for name in (plugin.distribution, plugin.name)}
        raise PluginSetError(f"no plugin or distribution named {package!r} is installed; {choose(package, known)}")
    offers = [offer for offer in offers if not isinstance(offer.item, Resource)]
    if not offers and not problems:
        raise PluginSetError(f"{package}: offers neither a component nor a data source; there is nothing to check")
    _refuse_unused(set_, offers)
    checks = [
        Check(
            kind="plugin", name=each.plugin.name, test="it_loads_without_a_problem", outcome="failed",
            message=each.message,
        )
        for each in problems
    ]  # fmt: skip
    tested: list[Offer] = []
    module = MODULE
    for offer in offers:
        component = cast(Component[Any], offer.item)
        try:
            registry.offer(offer.kind, component.name)
            parameters = _parameters(offer.kind, component, plugin_set, set_)
            lacking = [p.name for p in parameters_of(component).values() if p.required and p.name not in parameters]
            if lacking:
                wanted = ", ".join(f"--set {offer.kind}.{name}=..." for name in lacking)
                checks.append(_built(offer, "skipped", f"it has parameters without a default: {wanted}"))
                continue
            registry.build(offer.kind, component.name, parameters)
            if offer.kind not in CLASSES:
                checks.append(_built(offer, "skipped", "it is built; there are no tests of what its kind does"))
                continue
        except (PluginError, PluginSetError) as error:
            checks.append(_built(offer, "failed", str(error)))
            continue
        about = {"kind": offer.kind, "name": component.name, "parameters": parameters}
        contract = CLASSES[offer.kind].__name__
        module += (CLASS + KNOWN_BY_ITSELF.get(offer.kind, "")).format(number=len(tested), contract=contract, **about)
        tested.append(offer)
    return Checked(package=package, checks=[*checks, *(_run(module, tested, report) if tested else ())])


def _parameters(
    kind: str, component: Component[Any], plugin_set: PluginSet | None, set_: Iterable[str]
) -> dict[str, Any]:
    values = default_parameters(component)
    if plugin_set and kind in plugin_set.choices and plugin_set.choices[kind].use == component.name:
        values |= plugin_set.choices[kind].parameters
    known = parameters_of(component)
    for name, parameter in known.items():
        if parameter.annotation is Recipe:
            values[name] = {**cast(Mapping[str, Any], values.get(name, {})), **QUICK}
    return with_settings(kind, values, [text for text in set_ if _key(text)[1] in known])


def _refuse_unused(set_: Iterable[str], offers: Iterable[Offer]) -> None:
    """Raise where a setting is of no kind, or of a parameter that no component here has."""
    for text in set_:
        kind, key = _key(text)
        if kind not in CONTRACTS:
            raise PluginSetError(f"--set {text}: no kind named {kind!r}; {choose(kind, CONTRACTS)}")
        own = [cast(Component[Any], offer.item) for offer in offers if offer.kind == kind]
        known = {name for component in own for name in parameters_of(component)}
        if key not in known:
            raise PluginSetError(f"--set {text}: no {kind} of this package has {key!r}; {choose(key, known)}")


def _key(text: str) -> tuple[str, str]:
    kind, _, path = text.partition("=")[0].partition(".")
    return kind, path.partition(".")[0]


def _built(offer: Offer, outcome: Outcome, message: str) -> Check:
    return Check(kind=offer.kind, name=offer.item.name, test="it_is_built", outcome=outcome, message=message)


def _run(module: str, offers: Sequence[Offer], report: Callable[[str], None]) -> list[Check]:
    with tempfile.TemporaryDirectory(prefix="echosdk-check-") as scratch:
        folder = Path(scratch)
        (folder / "test_contracts.py").write_text(module)
        (folder / "pytest.ini").write_text("[pytest]\n")  # nobody else's
        cases_file = folder / "report.xml"
        options = ["-v", "-p", "no:cacheprovider", "-p", "echosdk.testing.fixtures", f"--junitxml={cases_file}"]
        printed = _watched(
            [sys.executable, "-m", "pytest", *options, "-c", str(folder / "pytest.ini"), str(folder)],
            lambda number: report(f"{offers[number].kind} {offers[number].item.name}: {number + 1} of {len(offers)}"),
        )
        cases = [*ElementTree.parse(cases_file).iter("testcase")] if cases_file.is_file() else []
    if not any(case.get("classname", "").startswith("test_contracts.Test") for case in cases):
        last = printed.strip().splitlines() or ["nothing was printed"]
        raise PluginError(f"the contract tests did not run: {last[-1]}")
    checks = [_read(case, offers) for case in cases]
    return [*dict.fromkeys(checks)]  # a training that fails is one failure, not one a test


def _watched(command: Sequence[str], begun: Callable[[int], None]) -> str:
    """Run pytest, say of each test class by its number when its first test begins, and return what was printed."""
    printed, told = "", -1
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as running:
        assert running.stdout is not None
        while part := os.read(running.stdout.fileno(), 1 << 16):
            printed += part.decode(errors="replace")
            while f"::Test{told + 1}::" in printed:
                told += 1
                begun(told)
    return printed


def _read(case: ElementTree.Element, offers: Sequence[Offer]) -> Check:
    offer = offers[int(case.get("classname", "").rpartition("Test")[2])]
    test, outcome, message = case.get("name", "").removeprefix("test_"), "passed", ""
    for tag, name in (("skipped", "skipped"), ("failure", "failed"), ("error", "failed")):
        found = case.find(tag)
        if found is not None:
            outcome, message = name, found.get("message", "")
            test = "it_is_trained_and_loads_what_it_saved" if tag == "error" else test
    line = " ".join(message.strip().partition("\n")[0].split()).removeprefix("AssertionError: ")
    line = line.removeprefix('failed on setup with "').removesuffix('"')
    return Check(
        kind=offer.kind, name=offer.item.name, test=test, outcome=cast(Outcome, outcome), message=line[:LONGEST_MESSAGE]
    )
