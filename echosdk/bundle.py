"""Trained state: a folder with a manifest, one public folder per learned component, and `private/`.

```
bundle.json     schema, plugin set with parameters, labels, fps, frame shape, sampling defaults, digests, provenance
KIND/           what may be published with the bundle, safetensors and JSON only
private/        needed to judge, never to be published: references, noise key, KIND/ of what derives from single records
```
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import attrs
import cattrs
import fsspec
from attrs import evolve, field, frozen
from attrs.validators import gt, le

from echosdk.documents import read_json
from echosdk.errors import BundleError
from echosdk.integrity import digest, file_digest, locked, private_folder, refuse_code, write_whole
from echosdk.interfaces import KINDS, Category, Label, References, Trainable
from echosdk.noise_key import NOISE_KEY, NOISE_KEY_OF, read_key, refuse_other_key, write_key
from echosdk.plugin_set import MOST_FPS, PluginSet
from echosdk.registry import Registry

if TYPE_CHECKING:
    import torch

SCHEMA_VERSION = 1
MANIFEST = "bundle.json"
PRIVATE = "private"
REFERENCES = "references.safetensors"


@frozen(kw_only=True)
class Stage:
    """A trained component: the digest of its folders, that of the encoder it was trained on, and how it came to be.

    An encoder that learns nothing has no folder: `public` is the digest of its name and parameters.
    """

    public: str
    private: str
    encoder: str | None
    provenance: Mapping[str, Any] = field(factory=dict)


@frozen(kw_only=True)
class Manifest:
    """What `bundle.json` holds. `frame_shape` is `H W` or `H W 3`; `references` the digest of those."""

    plugin_set: Mapping[str, Any]
    labels: tuple[Label | Category, ...]
    fps: float = field(validator=[gt(0), le(MOST_FPS)])
    frame_shape: tuple[int, ...]
    data: Mapping[str, Any]
    sampling: Mapping[str, Any] = field(factory=dict)
    stages: Mapping[str, Stage] = field(factory=dict)
    references: str = ""
    versions: Mapping[str, str] = field(factory=dict)
    identity: str = ""
    """Random, drawn when the bundle is begun; empty in bundles of an earlier version, and where there is no key."""
    schema: int = SCHEMA_VERSION


@frozen
class Bundle:
    """An opened bundle. Its folder is local; a remote one is copied to a temporary folder first."""

    folder: Path
    manifest: Manifest
    where: str

    @classmethod
    def open(cls, name: str, registry: Registry | None = None) -> Self:
        """Open a bundle by the name under which a plugin offers it, by path or by fsspec URL."""
        location = name
        if registry and name in registry.names("bundle"):
            location = registry.resource("bundle", name).location
        folder = _local(location)
        path = folder / MANIFEST
        if not path.is_file():
            offered = f" (installed bundles: {', '.join(registry.names('bundle')) or 'none'})" if registry else ""
            raise BundleError(f"{name}: no bundle here: {MANIFEST} is missing{offered}")
        try:
            plain = read_json(path.read_bytes())
            if not isinstance(plain, dict):
                raise BundleError(f"{path}: damaged: holds no table")
            if plain.get("schema") != SCHEMA_VERSION:
                raise BundleError(f"{path}: schema {plain.get('schema')!r}; this version reads {SCHEMA_VERSION}")
            manifest = _CONVERTER.structure(plain, Manifest)
        except (ValueError, KeyError, TypeError, cattrs.BaseValidationError) as error:
            raise BundleError(f"{path}: damaged: {_first_reason(error)}; fetch the bundle again") from error
        bundle = cls(folder, manifest, name)
        if manifest.identity and (folder / PRIVATE / NOISE_KEY).is_file():
            refuse_other_key(folder / PRIVATE / NOISE_KEY, bundle._private(NOISE_KEY_OF), manifest.identity)
        return bundle

    @property
    def plugin_set(self) -> PluginSet:
        """The plugin set that the bundle was trained as, with every parameter."""
        plugin_set = PluginSet.from_plain(self.manifest.plugin_set, where=f"bundle {self.where}")
        return evolve(plugin_set, sampling=self.manifest.sampling)

    @property
    def stripped(self) -> bool:
        """Say whether the private part is missing."""
        return not (self.folder / PRIVATE).is_dir()

    @property
    def digest(self) -> str:
        """A digest of the public part."""
        return digest(self.folder, only=(MANIFEST, *KINDS))

    @property
    def private_digest(self) -> str:
        """A digest of the private part; never published as it is."""
        return digest(self.folder / PRIVATE)

    @property
    def noise_key(self) -> bytes:
        """The secret that keys all noise."""
        return read_key(self._private(NOISE_KEY))

    def references(self) -> tuple[References, References, torch.Tensor]:
        """Return training references, held-out ones, and the video (an integer) of each held-out item."""
        tensors = self._tensors()

        def split(name: str) -> References:
            groups = [str(int(group)) for group in tensors[f"{name}_group"]]
            return References(items=tensors[name], groups=tuple(groups), mirrored=tensors.get(f"{name}_mirrored"))

        return split("train"), split("holdout"), tensors["holdout_video"]

    def strangers(self) -> torch.Tensor | None:
        """Return one latent frame of each patient of the test split; None in a bundle that keeps none of them."""
        return self._tensors().get("test")

    def _tensors(self) -> dict[str, torch.Tensor]:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self._private(REFERENCES)
        if file_digest(path) != self.manifest.references:
            raise BundleError(f"{path}: damaged: it is not what was written with this bundle; fetch the bundle again")
        try:
            tensors: dict[str, torch.Tensor] = load_file(path)
        except SafetensorError as error:
            raise BundleError(f"{path}: damaged: {error}; fetch the bundle again") from error
        return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}

    def load(self, kind: str, component: Any, name: str) -> None:
        """Give a learned component its trained state, after checking that the files are those that were written."""
        if not isinstance(component, Trainable):
            return
        stage = self.manifest.stages.get(kind)
        if stage is None or self.plugin_set.choices[kind].use != name:
            raise BundleError(
                f"bundle {self.where} holds no trained state for {kind} {name!r}; "
                f"train it: echosdk train --stage {kind} --use {kind}={name} --data SOURCE --out BUNDLE"
            )
        public, private = self.folder / kind, self.folder / PRIVATE / kind
        parts = [(public, stage.public)] + ([] if self.stripped else [(private, stage.private)])
        for folder, written in parts:
            refuse_code(folder)
            if digest(folder) != written:
                raise BundleError(
                    f"{folder}: damaged: its files are not those that were trained; fetch the bundle again"
                )
        encoder = self.manifest.stages.get("encoder")
        if stage.encoder and (encoder is None or stage.encoder != encoder.public):
            raise BundleError(
                f"bundle {self.where}: {kind} was trained on another encoder; train it again: --stage {kind}"
            )
        component.load(public, None if self.stripped else private)

    def _private(self, name: str) -> Path:
        path = self.folder / PRIVATE / name
        if not path.is_file():
            why = "this bundle was stripped" if self.stripped else "it is lost, or the training has not come so far"
            raise BundleError(f"bundle {self.where}: {PRIVATE}/{name} is missing: {why}")
        return path


def begin_bundle(folder: Path, manifest: Manifest) -> Bundle:
    """Make an empty bundle with a fresh noise key, or return the one that is there with its trained stages."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if (folder / MANIFEST).is_file():
            there = _described(Bundle.open(str(folder)), manifest)
            same, wanted = _fixed(there.manifest), _fixed(manifest)
            if same != wanted:
                different = [key for key in wanted if wanted[key] != same[key]]
                raise BundleError(f"{folder}: holds a bundle with other {', '.join(different)}; choose another --out")
            private_folder(folder / PRIVATE)
            return there
        refuse_what_is_no_bundle(folder)
        return write_manifest(folder, evolve(manifest, identity=write_key(private_folder(folder / PRIVATE))))


def refuse_what_is_no_bundle(folder: Path) -> None:
    """Raise where a folder holds something, and no bundle."""
    # A begin that was killed leaves the key, or a part of it, and no manifest: nothing has been made with that key
    keys = (f"{PRIVATE}/{NOISE_KEY}", f"{PRIVATE}/{NOISE_KEY_OF}")
    begun = {PRIVATE, *keys, *(f"{name}.partial" for name in (MANIFEST, *keys))}
    held = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    if MANIFEST not in held and held - begun:
        raise BundleError(f"{folder}: is not empty and holds no bundle; choose another --out")


def _described(bundle: Bundle, wanted: Manifest) -> Bundle:
    """Write how the source of the same data describes itself today; an earlier version kept no such words."""
    if bundle.manifest.data == wanted.data or _fixed(bundle.manifest) != _fixed(wanted):
        return bundle
    return write_manifest(bundle.folder, evolve(bundle.manifest, data=wanted.data))


def _fixed(manifest: Manifest) -> dict[str, Any]:
    """Return what stays as it is once a bundle is begun; the data's summary is only words."""
    data = {key: value for key, value in manifest.data.items() if key != "summary"}
    fixed = evolve(manifest, plugin_set={}, data=data, stages={}, versions={}, sampling={}, references="", identity="")
    return attrs.asdict(fixed)


def write_manifest(folder: Path, manifest: Manifest) -> Bundle:
    """Write `bundle.json` whole, or not at all."""
    manifest = evolve(manifest, versions=library_versions())
    text = json.dumps(_CONVERTER.unstructure(manifest), indent=2, sort_keys=True)
    write_whole(folder / MANIFEST, f"{text}\n".encode())
    return Bundle(folder, manifest, str(folder))


class Saves(Protocol):
    """What `add_stage` needs of a component."""

    def save(self, public: Path, private: Path) -> None:
        """Write the trained state to two empty folders, as safetensors and JSON only."""


def add_stage(
    bundle: Bundle, kind: str, component: Saves, encoder: str | None, provenance: Mapping[str, Any]
) -> Bundle:
    """Save a trained component into the bundle; what was there before is replaced only when the new one is whole.

    `encoder` is the digest of the encoder on whose latents it was trained, None where it has seen none.
    """
    with tempfile.TemporaryDirectory(dir=bundle.folder, prefix=".stage-") as scratch:
        public, private = Path(scratch) / "public", Path(scratch) / "private"
        public.mkdir()
        private.mkdir()
        component.save(public, private)
        refuse_code(public)
        refuse_code(private)
        for path in (private, *private.rglob("*")):
            path.chmod(0o700 if path.is_dir() else 0o600)
        stage = Stage(public=digest(public), private=digest(private), encoder=encoder, provenance=dict(provenance))
        choice = provenance["choice"]
        with locked(bundle.folder):
            for new, old in ((public, bundle.folder / kind), (private, bundle.folder / PRIVATE / kind)):
                shutil.rmtree(old, ignore_errors=True)
                if any(new.iterdir()):
                    new.rename(old)
            return _amended(bundle, {kind: stage}, {kind: {"use": choice["use"], **choice["parameters"]}})


def amend(
    bundle: Bundle,
    *,
    stages: Mapping[str, Stage] | None = None,
    choices: Mapping[str, Mapping[str, Any]] | None = None,
    references: str | None = None,
    sampling: Mapping[str, Any] | None = None,
) -> Bundle:
    """Write the manifest with something new.

    `choices` is what the plugin set says of some kinds. All else stays as it is on disk, where another process may have
    changed it since the bundle was opened. In particular the plugin set keeps, for every kind that is not in `choices`,
    the parameters which that kind was trained with.
    """
    with locked(bundle.folder):
        return _amended(bundle, stages, choices, references, sampling)


def _amended(
    bundle: Bundle,
    stages: Mapping[str, Stage] | None = None,
    choices: Mapping[str, Mapping[str, Any]] | None = None,
    references: str | None = None,
    sampling: Mapping[str, Any] | None = None,
) -> Bundle:
    there = Bundle.open(str(bundle.folder)).manifest
    return write_manifest(
        bundle.folder,
        evolve(
            there,
            stages={**there.stages, **(stages or {})},
            plugin_set={**there.plugin_set, **(choices or {})},
            references=there.references if references is None else references,
            sampling=there.sampling if sampling is None else sampling,
        ),
    )


def strip(bundle: Bundle, out: Path) -> None:
    """Copy a bundle without its private part. This does not clear the weights for publication.

    Raises `BundleError` where a component's folder holds anything that was not written when its stage was done.
    """
    for kind, stage in bundle.manifest.stages.items():
        if (bundle.folder / kind).is_dir() and digest(bundle.folder / kind) != stage.public:
            raise BundleError(
                f"{bundle.folder / kind}: its files are not those that were trained, and might be private; "
                "fetch the bundle again"
            )
    if out.exists():
        raise BundleError(f"{out}: exists; choose another place for the stripped bundle")
    if out.resolve().is_relative_to(bundle.folder.resolve()):
        raise BundleError(f"{out}: lies in the bundle {bundle.folder}; choose another place for the stripped bundle")
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    # Only what is known to be public: an interrupted training may have left private files under another name
    shutil.copy2(bundle.folder / MANIFEST, partial)
    for kind in bundle.manifest.stages:
        if (bundle.folder / kind).is_dir():
            shutil.copytree(bundle.folder / kind, partial / kind)
    partial.rename(out)


def summary(bundle: Bundle) -> dict[str, Any]:
    """Say what a bundle holds, as plain values: choices, labels, frames, stages with their figures and bytes."""
    manifest: dict[str, Any] = _CONVERTER.unstructure(bundle.manifest)
    stages = {
        kind: {
            "use": bundle.plugin_set.choices[kind].use,
            "public_bytes": _bytes(bundle.folder / kind),
            "private_bytes": _bytes(bundle.folder / PRIVATE / kind),
            "provenance": manifest["stages"][kind]["provenance"],
        }
        for kind in KINDS
        if kind in manifest["stages"]
    }
    kept = ("schema", "plugin_set", "labels", "fps", "frame_shape", "data", "sampling", "versions")
    return {
        "bundle": bundle.where,
        "stripped": bundle.stripped,
        "public_bytes": _bytes(bundle.folder) - _bytes(bundle.folder / PRIVATE),
        "private_bytes": _bytes(bundle.folder / PRIVATE),
        **{key: manifest[key] for key in kept},
        "stages": stages,
    }


def library_versions() -> dict[str, str]:
    """Return the versions that may change bits."""
    return {name: version(name) for name in ("torch", "diffusers", "numpy", "av")}


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _first_reason(error: BaseException) -> str:
    """Say what went wrong first, in a line; cattrs nests it in groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return " ".join(f"{type(error).__name__}: {error}".split())


def _local(location: str) -> Path:
    try:
        filesystem, path = fsspec.core.url_to_fs(location)
    except (ValueError, ImportError) as error:  # no such protocol, or its package is not installed
        raise BundleError(f"{location}: no bundle here: {error}") from error
    if "file" in filesystem.protocol:
        return Path(path)
    target = Path(tempfile.mkdtemp(prefix="echosdk-bundle-"))
    atexit.register(shutil.rmtree, target, ignore_errors=True)  # it holds the private part too
    try:
        filesystem.get(path.rstrip("/") + "/", f"{target}/", recursive=True)
    except FileNotFoundError as error:
        raise BundleError(f"{location}: no bundle here: {MANIFEST} is missing") from error
    return target


def _structure_label(plain: Mapping[str, Any], _type: object) -> Label | Category:
    return Category(**plain) if "values" in plain else Label(**plain)


_CONVERTER = cattrs.Converter(forbid_extra_keys=True)
_CONVERTER.register_structure_hook(Label | Category, _structure_label)
