"""Frames packed for a page: columns of bytes, deflated, in base64; `timeline.js` unpacks them.

A million rows make some megabytes. A column of numbers is stored as they are or as differences,
whichever is shorter; its lowest bytes come first, then the next (alike bytes deflate well). A
column of text is stored as numbers of a list of words. 0 is null, anything else one too high.
"""

import base64
import sys
import zlib
from array import array
from dataclasses import dataclass, field

import polars as pl

_NO_PLACE = 9
"""Bytes for what does not fit into eight."""


@dataclass(slots=True)
class Packed:
    """Packed frames and, for JSON, what is where."""

    index: dict[str, dict[str, object]] = field(default_factory=dict)
    """Table -> `rows` and `columns`: name -> `at` and `bytes`; `first` if they are differences,
    `words` if they are text."""
    _parts: list[bytes] = field(default_factory=list)
    _size: int = 0

    def add(self, name: str, frame: pl.DataFrame) -> None:
        """Pack a frame whose columns are strings and integers, none of these -1."""
        columns = {column.name: self._add_column(column) for column in frame}
        self.index[name] = {"rows": frame.height, "columns": columns}

    def text(self) -> str:
        """Give everything packed, in base64."""
        return base64.b64encode(zlib.compress(b"".join(self._parts), 6)).decode()

    def _add_column(self, column: pl.Series) -> dict[str, object]:
        about = dict[str, object]()
        if column.dtype == pl.String:
            words = column.drop_nulls().unique(maintain_order=True)
            about["words"] = words.to_list()
            numbers = range(words.len())
            column = column.replace_strict(words, numbers, return_dtype=pl.Int64)
        values = (column.cast(pl.Int64) + 1).fill_null(0)
        deltas = _zigzag(values.diff().fill_null(0))
        n_plain, n_delta = _bytes_for(values), _bytes_for(deltas)
        chosen = values
        if n_delta < n_plain:
            chosen = deltas
            about["first"] = values[0]
        about |= {"at": self._size, "bytes": min(n_plain, n_delta)}
        raw = _little_endian(chosen)
        for plane in range(min(n_plain, n_delta)):
            self._parts.append(raw[plane::8])
            self._size += column.len()
        return about


def _zigzag(values: pl.Series) -> pl.Series:
    """Fold signed numbers into even (0, 1, 2, ...) and odd (-1, -2, ...) ones."""
    folded = pl.when(pl.col("v") < 0).then(-2 * pl.col("v") - 1).otherwise(2 * pl.col("v"))
    return values.to_frame("v").select(folded).to_series()


def _bytes_for(values: pl.Series) -> int:
    """Give how many bytes each value needs; more than there are if one is negative."""
    least, largest = values.min(), values.max()
    if not isinstance(least, int) or not isinstance(largest, int):
        return 0
    return _NO_PLACE if least < 0 else (largest.bit_length() + 7) // 8


def _little_endian(values: pl.Series) -> bytes:
    words = array("Q", values.to_list())
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()
