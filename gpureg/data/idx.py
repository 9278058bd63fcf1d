"""Reader of IDX files, the format of MNIST: a big-endian header, then the array in C order.

Source: "The IDX file format", on the MNIST page of LeCun, Cortes and Burges.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from gpureg.errors import DataError

_TYPES: Mapping[int, str] = MappingProxyType(
    {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
)


def read_idx(path: Path) -> npt.NDArray[np.generic]:
    """Read one IDX file, plain or gzip (told by its first bytes), in the machine's byte order.

    Header: two zero bytes, a type code, the number of dimensions d, then d sizes as big-endian uint32. The result has
    that shape; its bytes are exactly the rest of the file.

    Raises DataError for a file that can't be read, is no IDX file, or has other than the promised number of bytes.
    """
    try:
        content: bytes | bytearray = bytearray(path.read_bytes())
        if content[:2] == b"\x1f\x8b":
            content = bytearray(gzip.decompress(content))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"can't read {path}: {error}. Wanted an IDX file, plain or gzip.") from error
    if len(content) < 4 or content[0] or content[1] or content[2] not in _TYPES:
        raise DataError(f"{path} is no IDX file: it begins with {bytes(content[:4]).hex(' ') or 'nothing'}.")
    ndim = content[3]
    start = 4 + 4 * ndim
    if ndim == 0 or len(content) < start:
        raise DataError(f"{path}: the IDX header is cut off or has no dimension. Fetch or write the file again.")
    shape = struct.unpack_from(f">{ndim}I", content, 4)
    dtype = np.dtype(_TYPES[content[2]])
    wanted = start + math.prod(shape) * dtype.itemsize
    if len(content) != wanted:
        raise DataError(
            f"{path}: {len(content)} bytes, but its header (shape {shape}) promises {wanted}. "
            "The file is damaged or cut off; fetch or write it again."
        )
    flat = np.frombuffer(content, dtype=dtype, offset=start)
    return flat.astype(dtype.newbyteorder("="), copy=False).reshape(shape)
