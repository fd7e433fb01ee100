"""`echosdk view`: a gallery."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("view")
@click.argument("out")
@click.option("--videos", type=click.IntRange(1), default=200, show_default=True, help="Shown at most.")
@click.option("--page", type=click.Path(path_type=Path, dir_okay=False), help="Where to write it [default: OUT.html].")
def command(out: str, videos: int, page: Path | None) -> None:
    """Write a page with the videos of the dataset OUT, which opens in a browser and needs no network."""
    from echosdk.errors import InputError
    from echosdk.export.gallery import render_gallery

    if page is None:
        if "://" in out:
            raise InputError(f"{out}: is no folder of this machine; say where the page goes: --page FILE")
        page = Path(f"{out.rstrip('/')}.html")
    page.write_text(render_gallery(out, videos))
    click.echo(f"gallery: {page}")
