"""Real data in the EchoNet layouts, read and written, and the weights of EchoNet-Synthetic as they were published."""

from collections.abc import Iterator
from importlib.resources import files

import echosdk
from echosdk_echonet.dynamic import EchoNetDynamic
from echosdk_echonet.export import write_layout
from echosdk_echonet.pediatric import EchoNetPediatric
from echosdk_echonet.published import EchoNetSynthetic

__all__ = ["EchoNetDynamic", "EchoNetPediatric", "EchoNetSynthetic", "write_layout"]


@echosdk.hookimpl
def echosdk_data_sources() -> Iterator[echosdk.Component[echosdk.DataSource]]:
    yield echosdk.Component(
        name="echonet-dynamic",
        build=EchoNetDynamic,
        summary="A folder in the layout of EchoNet-Dynamic: Videos/*.avi and FileList.csv.",
    )
    yield echosdk.Component(
        name="echonet-pediatric",
        build=EchoNetPediatric,
        summary="One view of EchoNet-Pediatric, A4C or PSAX: Videos/*.avi and FileList.csv with folds.",
    )


@echosdk.hookimpl
def echosdk_plugin_sets() -> Iterator[echosdk.Resource]:
    summaries = {
        "default": "The paper's components at the paper's shapes.",
        "default-small": "The same components at the embedded bundle's shapes; trains on a CPU in hours.",
        "default-tiny": "The same components as small as they go; for tests.",
    }
    for name, summary in summaries.items():
        yield echosdk.Resource(name=name, location=str(files("echosdk_echonet") / f"{name}.toml"), summary=summary)


@echosdk.hookimpl
def echosdk_published_layouts() -> Iterator[echosdk.Component[EchoNetSynthetic]]:
    yield echosdk.Component(
        name="echonet-synthetic",
        build=EchoNetSynthetic,
        summary="Weights of EchoNet-Synthetic as its authors published them, trained on real patients.",
    )
