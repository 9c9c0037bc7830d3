"""``sbom``: what is inside an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from xmslurm_repro.cli.output import json_option, print_json
from xmslurm_repro.cli.session import run

if TYPE_CHECKING:
    from xmslurm_repro.services.tools import Tools


@click.command()
@click.argument("experiment", default="latest")
@json_option
def sbom(experiment: str, as_json: bool) -> int:
    """
    Print a bill of materials (CycloneDX) of the image that EXPERIMENT runs: wheels, packages of
    the base, code, each with version and hash. It is JSON with or without `--json`.
    """
    del as_json

    async def body(tools: Tools) -> int:
        from xmslurm_repro.services.lookup import select
        from xmslurm_repro.services.sbom import bill_of_materials, selected_image

        image = selected_image(tools, select(tools.record, experiment))
        print_json(bill_of_materials(tools, image))
        return 0

    return run(body, is_quiet=True)
