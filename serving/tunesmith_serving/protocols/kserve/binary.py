"""The binary tensor data extension: elements of tensors after the JSON part of a body.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/extension_binary_data.md
"""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith_serving.http.errors import ApiError

HEADER = "Inference-Header-Content-Length"
"""Length of the JSON part of a body, in bytes."""

NUMPY_TYPES: dict[str, Any] = {"FP32": np.dtype("<f4"), "INT64": np.dtype("<i8")}


def json_length(header: str | None, size: int) -> int:
    """Return how many of a body's `size` bytes are JSON.

    Raises:
        ApiError: The header is not a number of bytes that the body has.
    """
    if header is None:
        return size
    if not header.isascii() or not header.isdigit() or int(header[:20]) > size:
        raise ApiError(
            400, f"{HEADER}: {header[:20]!r} is not the length of a part of the body, which has {size} bytes"
        )
    return int(header)


def read_strings(raw: bytes, name: str) -> list[str]:
    """Return the elements of a BYTES tensor: each its length in 4 bytes, little endian, and then as many bytes.

    Raises:
        ApiError: The bytes do not end with an element, or are not UTF-8.
    """
    found, position = [], 0
    while position < len(raw):
        if position + 4 > len(raw):
            raise _broken(name)
        (length,) = struct.unpack_from("<I", raw, position)
        position += 4
        if position + length > len(raw):
            raise _broken(name)
        try:
            found.append(raw[position : position + length].decode())
        except UnicodeDecodeError:
            raise ApiError(400, f"inputs.{name}: element {len(found)} is not UTF-8") from None
        position += length
    return found


def write_elements(datatype: str, values: Sequence[object]) -> bytes:
    """Return the elements of a tensor as the extension sends them."""
    if datatype == "BYTES":
        encoded = [str(value).encode() for value in values]
        return b"".join(struct.pack("<I", len(value)) + value for value in encoded)
    tensor: npt.NDArray[Any] = np.array(list(values), NUMPY_TYPES[datatype])
    return tensor.tobytes()


def _broken(name: str) -> ApiError:
    return ApiError(400, f"inputs.{name}: its binary data ends within an element; each is 4 bytes of length, then text")
