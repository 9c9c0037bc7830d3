"""The whole environment of a job's process, computed once at launch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xmslurm_repro.model.image import OUTPUTS_DIR, PYCACHE_DIR

THREAD_COUNT_VARIABLES = (
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
)
"""How many threads the usual numeric libraries start. Sums depend on it, so it is fixed by what
was asked for and never by the node."""

_FIXED = {
    "HOME": "/tmp",  # noqa: S108 (in the image, where it is private to the attempt)
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "PYTHONPYCACHEPREFIX": PYCACHE_DIR,
    "PYTHONUNBUFFERED": "1",
    # Read by Matplotlib, Sphinx, zip tools and others; 1980 is the earliest time a zip can hold.
    "SOURCE_DATE_EPOCH": "315532800",
    "TMPDIR": "/tmp",  # noqa: S108
    "TZ": "UTC",
    "XMSLURM_OUTPUTS": OUTPUTS_DIR,
}


def process_environment(
    *, image_env: Sequence[tuple[str, str]], cpus: int, user_env: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    """
    The environment that a process gets: the image's, then ours, then the user's.

    Args:
        image_env: What the image's config sets; of two settings of one name the last counts.
        cpus: CPUs of one replica, for the thread counts.
        user_env: What the user asked for.

    Returns:
        Name and value, sorted by name.
    """
    threads = dict.fromkeys(THREAD_COUNT_VARIABLES, str(cpus))
    whole = {**dict(image_env), **_FIXED, **threads, **user_env}
    return tuple(sorted(whole.items()))
