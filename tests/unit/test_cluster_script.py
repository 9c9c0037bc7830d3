"""Batch scripts and the command lines of container runtimes."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest

from tests.cluster_support import Blobs, layer_tar, make_image, make_layer, submission
from xmslurm_repro.cluster.apptainer import Apptainer
from xmslurm_repro.cluster.charliecloud import Charliecloud
from xmslurm_repro.cluster.docker import Docker
from xmslurm_repro.cluster.enroot import Enroot
from xmslurm_repro.cluster.podman import Podman
from xmslurm_repro.cluster.pyxis import Pyxis
from xmslurm_repro.cluster.runtime import Bubblewrap, ContainerJob, Runtime
from xmslurm_repro.cluster.script import render_script, tree_key
from xmslurm_repro.cluster.slurm import SlurmScheduler
from xmslurm_repro.cluster.words import assign_array
from xmslurm_repro.errors import ImageError, SubmitRefusedError
from xmslurm_repro.model.image import Layer, LayerKind
from xmslurm_repro.model.work import Network, Resources
from xmslurm_repro.ports.cluster import Submission

RUNTIMES: list[Runtime] = [
    *(Bubblewrap(), Podman(), Apptainer(), Apptainer(program="singularity")),
    *(Charliecloud(), Docker(), Enroot()),
]


def example(*, code: bool = True) -> Submission:
    blobs = Blobs()
    # What a compressor makes of them is not for golden files.
    named = [
        replace(one, blob=replace(one.blob, digest=one.diff_id)) for one in _layers(blobs, code)
    ]
    return submission(
        make_image(blobs, named),
        ["python", "train.py", "--seed=1"],
        ["python", "train.py", "--seed=2"],
        token="abcdefgh",
        title="two seeds",
        options=(("partition", "gpu"),),
        resources=Resources(cpus=4, gpus=1, time_limit_minutes=60),
        max_parallel_tasks=1,
    )


def _layers(blobs: Blobs, code: bool) -> list[Layer]:
    layers = [
        make_layer(blobs, layer_tar({"etc/os-release": b"ID=x\n"}), LayerKind.BASE, "base"),
        make_layer(blobs, layer_tar({"xm/venv/x": b"1"}), LayerKind.PACKAGES, "packages"),
    ]
    if code:
        tar = layer_tar({"xm/code/train.py": b"print(1)\n"})
        layers.append(make_layer(blobs, tar, LayerKind.CODE, "code"))
    return layers


def render(wanted: Submission, runtime: Runtime = RUNTIMES[0]) -> str:
    return render_script(
        wanted,
        state_dir="/home/a b/.xmslurm",
        scheduler="slurm",
        directives=SlurmScheduler().directives(wanted, folder="/home/a b/.xmslurm/submit/abcdefgh"),
        runtime=runtime,
        index_sha256="0" * 64,
        grace_seconds=18,
    )


def test_the_head_of_a_script(golden):
    head, mark, _ = render(example()).partition("\n# bubblewrap: ")

    assert mark
    golden("cluster-script-slurm.bash", head)


def test_a_runtime_that_leaves_the_network_open_takes_no_job_that_must_not_reach_it():
    job = ContainerJob(
        workdir="/xm/code", network=Network.NONE, has_code=True, image="a" * 64, config="b" * 64
    )

    with pytest.raises(SubmitRefusedError, match="network"):
        Pyxis().command(job)


def test_the_command_line_of_pyxis(golden):
    job = ContainerJob(
        workdir="/xm/code/a dir",
        network=Network.HOST,
        has_code=True,
        image="a" * 64,
        config="b" * 64,
    )

    golden("cluster-runtime-pyxis-host.bash", assign_array("xm_command", Pyxis().command(job)))


@pytest.mark.parametrize("network", list(Network))
@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda runtime: runtime.name)
def test_the_command_line_of_a_runtime(golden, runtime: Runtime, network: Network):
    job = ContainerJob(
        workdir="/xm/code/a dir", network=network, has_code=True, image="a" * 64, config="b" * 64
    )

    text = assign_array("xm_command", runtime.command(job))

    golden(f"cluster-runtime-{runtime.name}-{network.value}.bash", text)


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda runtime: runtime.name)
def test_a_script_is_bash_that_ends_in_its_only_call(runtime: Runtime):
    script = render(example(), runtime)

    subprocess.run(["bash", "-n"], input=script.encode(), check=True)
    assert script.endswith("\n}\n\nxm_main\n")


def test_a_script_depends_on_nothing_but_the_submission():
    assert render(example()) == render(example())
    other = replace(example(), full_check=True)
    assert "xm_full_check=1\n" in render(other)


def test_without_code_there_is_no_tree_for_it():
    script = render(example(code=False))

    assert "xm_code_key=''\n" in script
    assert '"${xm_code}"' not in script.partition("xm_main")[0].partition("# bubblewrap")[0]


def test_a_tree_is_named_by_its_layers_in_order():
    base, packages, _ = example().image.layers

    assert tree_key([base, packages]) != tree_key([packages, base])
    assert tree_key([base]) != tree_key([base, packages])
    assert tree_key([]) == ""


def test_a_layer_that_we_cannot_unpack_is_an_error():
    wanted = example()
    odd = replace(wanted.image.layers[0].blob, media_type="application/x-lzma")
    layer = replace(wanted.image.layers[0], blob=odd)
    image = replace(wanted.image, layers=(layer,))

    with pytest.raises(ImageError, match="application/x-lzma"):
        render(replace(wanted, image=image))
