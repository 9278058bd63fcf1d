"""Damaged files of every format, by seeded mutations: a data set or one of gpureg's own errors, in bounded time and
memory."""

from __future__ import annotations

import contextlib
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import FrameType

import pytest
from mutations import LABELS, corpus, mutate

import gpureg
from gpureg.data import Request, open_blocks
from gpureg.data.idx_set import _labels_name
from gpureg.data.matching import Expected
from gpureg.errors import GpuregError

CORPUS = corpus()
SECONDS, GROWTH_MB = 30, 600  # of one file; of the process over all


@contextlib.contextmanager
def bounded(what: str) -> Iterator[None]:
    """At most so many seconds, and afterwards no more memory at the peak than before, but for a little."""

    def late(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"{what} takes more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def peak_mb() -> float:
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (2**20 if sys.platform == "darwin" else 2**10)


def blocks(path: Path, request: Request) -> None:
    for block in open_blocks(path, request).rows:
        assert block.X.shape[1] == request.expected.n_features


def read_all_ways(path: Path) -> int:
    """How many ways of reading the file gave data; the others raised an error of gpureg's."""
    read = 0
    for way in (
        lambda: gpureg.load_dataset(path),
        lambda: gpureg.load_dataset(path, target="a", weights="n"),
        lambda: blocks(path, Request(Expected(3))),
        lambda: blocks(path, Request(Expected(2, ("b", "a")))),
        lambda: blocks(path, Request(Expected(3, ("a", "b", "n")), labelled=True, keep=("a",))),
    ):
        with contextlib.suppress(GpuregError):
            way()
            read += 1
    return read


def fuzz(folder: Path, name: str, seed: int, cases: int) -> int:
    """Mutations of one file of the corpus, under its own name and sometimes under another's; how many were read."""
    random = Random(f"{name} {seed}")
    others = [CORPUS[other] for other in random.sample(sorted(CORPUS), 4)]
    before, read = peak_mb(), 0
    for case in range(cases):
        content = mutate(CORPUS[name], random, others)
        chosen = random.choice(sorted(CORPUS)) if random.random() < 0.1 else name
        path = folder / chosen
        path.write_bytes(content)
        if "images" in chosen and not chosen.endswith(".npz"):
            labels = LABELS if random.random() < 0.7 else mutate(LABELS, random, others)
            (folder / _labels_name(chosen)).write_bytes(labels)
        with bounded(f"case {case} of {name}, seed {seed}"):
            try:
                read += read_all_ways(path) > 0
            except GpuregError:
                raise
            except Exception as error:
                raise AssertionError(f"case {case} of {name}, seed {seed}: {error!r}") from error
        path.unlink()
    assert peak_mb() - before < GROWTH_MB
    return read


@pytest.mark.parametrize("name", CORPUS)
def test_the_corpus_itself_is_read(tmp_path, name):
    (tmp_path / name).write_bytes(CORPUS[name])
    if "images" in name and not name.endswith(".npz"):
        (tmp_path / _labels_name(name)).write_bytes(LABELS)
    data = gpureg.load_dataset(tmp_path / name)
    assert len(data.y_train) + len(data.y_val) in (24, 29)
    assert len(data.classes) in (2, 3)


@pytest.mark.parametrize("name", CORPUS)
def test_damaged_files(tmp_path, name):
    fuzz(tmp_path, name, seed=0, cases=25)


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", CORPUS)
def test_many_damaged_files(tmp_path, name, seed):
    assert fuzz(tmp_path, name, seed, cases=900) > 0
