"""`echosdk train`: train a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from echosdk.cli import options
from echosdk.interfaces import KINDS, Switches


@click.command("train")
@click.option(
    "--plugin-set",
    "plugin_set_name",
    help="Name of a plugin set, or a TOML file; else that of the bundle in OUT, or where there is none, default.",
)
@options.use
@options.set_
@click.option(
    "--data",
    "data",
    required=True,
    multiple=True,
    metavar="NAME[:LOCATION][?key=value&...]",
    help="The real clips; may be repeated: encoder and video animator learn from all, the rest from the first, whose "
    "bundle it is.",
)
@click.option(
    "--from",
    "start",
    metavar="BUNDLE",
    help="Start each stage from this bundle's weights where it has them, and not from nothing.",
)
@click.option("--skip-bad", is_flag=True, help="Leave out videos that cannot be read, and list them.")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="The bundle's folder.")
@click.option(
    "--stage", "stages", multiple=True, type=click.Choice(KINDS), help="Train only this stage; may be repeated."
)
@click.option(
    "--work",
    type=click.Path(path_type=Path, file_okay=False),
    help="Caches and checkpoints (private); default OUT.work.",
)
@click.option(
    "--references",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Frames of every training clip that the bundle keeps for the privacy filter.",
)
@click.option(
    "--held-out-frames",
    type=click.IntRange(1),
    help="Frames of a held-out clip, from its first on, that the bundle keeps for calibration; default all.",
)
@click.option("--seed", default=0, show_default=True)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True)
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default all cores.")
@options.device
@click.option(
    "--accumulate",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Parts in which a batch goes through the network: less memory, the same batch.",
)
@click.option("--checkpoint-gradients", is_flag=True, help="Compute activations twice rather than keep them.")
@click.option("--compile", "compile_", is_flag=True, help="Compile the networks with torch.compile.")
@click.option(
    "--validate-every",
    type=click.IntRange(0),
    default=1000,
    show_default=True,
    metavar="STEPS",
    help="How often the validation loss is added to a stage's curve.csv; 0: at the end only.",
)
@click.option(
    "--pictures-every",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="STEPS",
    help="How often a stage draws what it has learnt; 0: never.",
)
@click.option("--tensorboard", is_flag=True, help="Write logs for TensorBoard (extra `tensorboard`).")
def command(
    plugin_set_name: str | None,
    use: tuple[str, ...],
    set_: tuple[str, ...],
    data: tuple[str, ...],
    start: str | None,
    skip_bad: bool,
    out: Path,
    stages: tuple[str, ...],
    work: Path | None,
    references: int,
    held_out_frames: int | None,
    seed: int,
    dtype: str,
    threads: int | None,
    device: str,
    accumulate: int,
    checkpoint_gradients: bool,
    compile_: bool,
    validate_every: int,
    pictures_every: int,
    tensorboard: bool,
) -> None:
    """Train a bundle from real data: the encoder, then everything that works on its latents.

    Ctrl-C is safe: the same command goes on where it stopped, and stages that are done are not done again. Several
    GPUs: torchrun --nproc-per-node N -m echosdk train ...
    """
    import torch

    from echosdk.bundle import MANIFEST, Bundle
    from echosdk.devices import check_threads
    from echosdk.plugin_set import PluginSet, open_source, resolve
    from echosdk.registry import Registry
    from echosdk.training.stages import Training, train_bundle

    if threads:
        check_threads(threads)
        torch.set_num_threads(threads)
    registry = Registry.discover()
    if plugin_set_name is None and (out / MANIFEST).is_file():
        asked = Bundle.open(str(out)).plugin_set
    else:
        asked = PluginSet.find(plugin_set_name or "default", registry)
    plugin_set = resolve(registry, asked, use=use, set_=set_)
    bundle = train_bundle(
        Training(
            plugin_set=plugin_set,
            registry=registry,
            source=open_source(registry, data[0]),
            source_name=data[0],
            more=tuple((open_source(registry, name), name) for name in data[1:]),
            start=Bundle.open(start, registry) if start else None,
            skip_bad=skip_bad,
            out=out,
            work=work or out.with_name(out.name + ".work"),
            seed=seed,
            references_a_clip=references,
            held_out_frames=held_out_frames,
            device=options.pick_device(device),
            dtype=dtype,
            stages=stages or KINDS,
            progress=options.on_a_terminal(),
            switches=Switches(
                accumulate=accumulate,
                checkpoint_gradients=checkpoint_gradients,
                compile=compile_,
                validate_every=validate_every,
                pictures_every=pictures_every,
                tensorboard=tensorboard,
            ),
            report=options.say if options.is_first_process() else lambda line: None,
        )
    )
    if options.is_first_process():
        click.echo(f"bundle: {bundle.folder}  stages: {', '.join(bundle.manifest.stages)}")
