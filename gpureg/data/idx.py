"""Reader of IDX files, the format of MNIST: a big-endian header, then the array in C order.

Source: "The IDX file format", on the MNIST page of LeCun, Cortes and Burges.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from gpureg.data.limits import Limit
from gpureg.data.opening import opened
from gpureg.errors import DataError

_TYPES: Mapping[int, str] = MappingProxyType(
    {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
)
_MOST_DIMENSIONS = 3  # images: (N, height, width)


def read_idx(path: Path, limit: Limit) -> npt.NDArray[np.generic]:
    """Read one IDX file, plain or gzip (told by its first bytes), in the machine's byte order.

    Header: two zero bytes, a type code, the number of dimensions d, then d sizes as big-endian uint32. The result has
    that shape; its bytes are exactly the rest of the file.

    Raises DataError for a file that can't be read, is not an IDX file, or has other than the promised number of bytes.
    """
    with opened(path, limit) as stream:
        shape, dtype = read_idx_header(stream, path)
        promised = math.prod(shape) * dtype.itemsize
        content = bytearray()
        while len(content) <= promised and (block := stream.read(min(1 << 24, promised + 1 - len(content)))):
            content += block
            limit.check(len(content), path)
    if len(content) != promised:
        there = f"more than {promised}" if len(content) > promised else str(len(content))
        raise DataError(
            f"{path}: {there} bytes after its header, whose shape {shape} promises {promised}. "
            "The file is damaged or cut off; fetch or write it again."
        )
    flat = np.frombuffer(content, dtype=dtype)
    return flat.astype(dtype.newbyteorder("="), copy=False).reshape(shape)


def read_idx_header(stream: BinaryIO, path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """The shape and type that an IDX file begins with. Raises DataError."""
    start = stream.read(4)
    if len(start) < 4 or start[0] or start[1] or start[2] not in _TYPES:
        raise DataError(f"{path} is not an IDX file: it begins with {start.hex(' ') or 'nothing'}.")
    return _shape(path, start[3], stream.read(4 * start[3])), np.dtype(_TYPES[start[2]])


def _shape(path: Path, dimensions: int, sizes: bytes) -> tuple[int, ...]:
    if not 1 <= dimensions <= _MOST_DIMENSIONS or len(sizes) < 4 * dimensions:
        raise DataError(
            f"{path}: its IDX header is cut off, or promises {dimensions} dimensions; expected 1 to "
            f"{_MOST_DIMENSIONS}. Fetch or write the file again."
        )
    shape = struct.unpack(f">{dimensions}I", sizes)
    if 0 in shape:
        raise DataError(f"{path}: the shape {shape} in its header is empty. Fetch or write the file again.")
    return shape
