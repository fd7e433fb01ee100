"""What the installed plugins offer, as plain values: for `echosdk plugins` and whoever else prints it."""

from __future__ import annotations

from typing import Any, get_type_hints

import attrs

from echosdk.errors import PluginSetError
from echosdk.hookspecs import HOOKS, Resource
from echosdk.parameter_values import plain_value, type_words
from echosdk.registry import Offer, Plugin, Registry, choose, parameters_of


def list_offers(registry: Registry) -> dict[str, list[dict[str, str]]]:
    """Return every offer in the order of the protocol, and every problem. Nothing is built."""
    kinds = list(HOOKS)
    offers = sorted(registry.offers, key=lambda offer: (kinds.index(offer.kind), offer.item.name))
    return {
        "offers": [_row(offer) for offer in offers],
        "problems": [{**_origin(problem.plugin), "message": problem.message} for problem in registry.problems],
    }


def show_offers(registry: Registry, name: str, kind: str | None = None) -> list[dict[str, Any]]:
    """Return all that is offered under a name, with its parameters.

    Raises `PluginSetError` where there is nothing of that name.
    """
    if kind is not None and kind not in HOOKS:
        raise PluginSetError(f"--kind: no kind named {kind!r}; {choose(kind, HOOKS)}")
    offers = [offer for offer in registry.offers if kind in (None, offer.kind)]
    found = [offer for offer in offers if offer.item.name == name]
    if not found:
        any_kind = "component, data source, plugin set, bundle, published layout or feature extractor"
        what = kind.replace("_", " ") if kind else any_kind
        raise PluginSetError(f"no {what} named {name!r}; {choose(name, {offer.item.name for offer in offers})}")
    return [{**_row(offer), **_details(offer)} for offer in found]


def _row(offer: Offer) -> dict[str, str]:
    return {"kind": offer.kind, "name": offer.item.name, "summary": offer.item.summary, **_origin(offer.plugin)}


def _origin(plugin: Plugin) -> dict[str, str]:
    return {"plugin": plugin.name, "distribution": plugin.distribution, "version": plugin.version}


def _details(offer: Offer) -> dict[str, Any]:
    if isinstance(offer.item, Resource):
        return {"location": offer.item.location}
    rows: list[dict[str, Any]] = []
    for parameter in parameters_of(offer.item).values():
        role = {"required": parameter.required, "role": "shape" if parameter.shape else "run"}
        default = None if parameter.required else parameter.default
        table = type(default)
        if attrs.has(table):  # its keys are set one by one, as KIND.KEY.KEY=VALUE
            hints = get_type_hints(table)
            rows += [
                {
                    "name": f"{parameter.name}.{one.alias or one.name}",
                    "type": type_words(hints.get(one.name, Any)),
                    "default": plain_value(getattr(default, one.name)),
                    **role,
                }
                for one in attrs.fields(table)
                if one.init
            ]
        else:
            words = type_words(parameter.annotation)
            rows.append({"name": parameter.name, "type": words, "default": plain_value(default), **role})
    return {"parameters": rows}
