"""
Launch from the folder that this is started in, as `xmslurm-repro launch` does, step by step.

    python launch.py INFO_FILE (fetch | build | publish REPOSITORY | submit CLUSTER) COMMAND...

It stops after the step that is named. What came of it goes to INFO_FILE; the last line printed is
the seconds of each step. The steps are the methods of the tools, so nothing is done otherwise
than the command line does it.
"""

from __future__ import annotations

import time

begin = time.perf_counter()

import asyncio  # noqa: E402 (what is imported is part of what is measured)
import inspect  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import replace  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from xmslurm_repro.config import load_settings  # noqa: E402
from xmslurm_repro.ports.progress import SilentProgress  # noqa: E402
from xmslurm_repro.services.launch import LaunchRequest, launch, plan_launch  # noqa: E402
from xmslurm_repro.services.prepare import CodeRequest, build_image  # noqa: E402
from xmslurm_repro.services.submit import settle  # noqa: E402
from xmslurm_repro.services.tools import ClusterSite, Tools  # noqa: E402
from xmslurm_repro.wiring import open_tools  # noqa: E402

STEPS = (
    *("start", "snapshot", "resolve", "fetch", "build", "publish", "find", "deliver", "submit"),
    *("record", "rest"),
)


class Stopwatch:
    """Seconds spent in each step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def add(self, step: str, since: float) -> None:
        """Let *step* have taken what went by since *since*."""
        self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - since


class Timed:
    """Another object, whose methods are timed."""

    def __init__(self, other: object, step: Callable[[str], str], watch: Stopwatch) -> None:
        self._other, self._step, self._watch = other, step, watch

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._other, name)
        if not callable(value):
            return value

        def call(*given: Any, **named: Any) -> Any:
            since = time.perf_counter()
            answer = value(*given, **named)
            if inspect.isawaitable(answer):
                return self._awaited(answer, name, since)
            self._watch.add(self._step(name), since)
            return answer

        return call

    async def _awaited(self, answer: Any, name: str, since: float) -> Any:
        try:
            return await answer
        finally:
            self._watch.add(self._step(name), since)


def timed_tools(tools: Tools, watch: Stopwatch) -> Tools:
    def site(name: str | None) -> ClusterSite:
        found = tools.site(name)
        return replace(found, cluster=Timed(found.cluster, lambda method: method, watch))

    return replace(
        tools,
        snapshots=Timed(tools.snapshots, lambda _: "snapshot", watch),
        bases=Timed(tools.bases, lambda _: "resolve", watch),
        locks=Timed(tools.locks, lambda name: "fetch" if name == "fetch" else "resolve", watch),
        builder=Timed(tools.builder, lambda _: "build", watch),
        publisher=Timed(tools.publisher, lambda _: "publish", watch),
        record=Timed(tools.record, lambda _: "record", watch),
        site=site,
    )


async def run(info_file: Path, until: str, where: str | None, argv: list[str]) -> dict[str, float]:
    watch = Stopwatch()
    settings = load_settings(environ=os.environ, start=Path(os.curdir).absolute())
    async with open_tools(settings, SilentProgress()) as tools:
        tools = timed_tools(tools, watch)
        watch.add("start", begin)
        request = LaunchRequest(
            code=CodeRequest(start=Path(os.curdir).absolute()),
            argv=tuple(argv),
            cluster=where if until == "submit" else None,
        )
        info = await go_on(tools, request, until, where)
    info_file.write_text(json.dumps(info))
    watch.seconds["rest"] = time.perf_counter() - begin - sum(watch.seconds.values())
    return {step: watch.seconds[step] for step in STEPS if step in watch.seconds}


async def go_on(
    tools: Tools, request: LaunchRequest, until: str, where: str | None
) -> dict[str, Any]:
    """Do the steps up to *until*; returns what came of them."""
    plan = plan_launch(tools, request)
    info: dict[str, Any] = {"snapshot": str(plan.snapshot.root)}
    if until == "fetch":
        tools.locks.fetch(plan.recipe.artifacts, progress=tools.progress)
        return info
    if until == "submit":
        await settle(tools)
        launched = await launch(tools, request, plan)
        return {**info, "image": launched.image.to_json(), "run": launched.receipts[0].to_json()}
    image = build_image(tools, plan).image
    if where is not None:
        moved = tools.publisher.publish(image, where, progress=tools.progress)
        info["moved_bytes"] = moved
    return {**info, "image": image.to_json()}


def main(words: list[str]) -> None:
    info_file, until, *rest = words
    where = rest.pop(0) if until in {"publish", "submit"} else None
    print(json.dumps(asyncio.run(run(Path(info_file), until, where, rest))))


if __name__ == "__main__":
    main(sys.argv[1:])
