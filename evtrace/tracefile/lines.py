"""Raw records as text, a batch at a time: the dump's lines.

Records that are shown alike (`events.shape`) are formatted together, column by column.
"""

from collections.abc import Callable

import polars as pl

from evtrace.tracefile.events import CALLS, FACT, PV_HYPERCALLS, VMMCALL, Shape, shape
from evtrace.tracefile.layouts import Field
from evtrace.tracefile.load import WORDS

IDLE_DOMAIN = 0x7FFF


def described(batch: pl.DataFrame) -> pl.DataFrame:
    """Add `name` and `text` to annotated records (`rows.annotated`), in their order."""
    return _formatted(batch, lambda shown: (shown.name, shown.template))


def evtrace_lines(batch: pl.DataFrame) -> list[str]:
    """Give a line a record: seq, time, pCPU, vCPU, name, what its words say."""
    exact = pl.col("tsc_lo") == pl.col("tsc_hi")
    time = pl.when(exact).then(_text("tsc_lo")).otherwise(pl.format("{}..{}", "tsc_lo", "tsc_hi"))
    lines = described(batch).select(
        pl.concat_str(
            _text("seq").str.pad_start(8),
            time.str.pad_start(15),
            pl.coalesce(pl.format("p{}", "pcpu"), pl.lit("-")).str.pad_start(4),
            who().str.pad_start(7),
            "name",
            "text",
            separator=" ",
        ).str.strip_chars_end(" "),
    )
    return lines.to_series().to_list()


class XentraceFormat:
    """Lines in the manner of the tool xentrace_format: each with the cycles since the last.

    What was recorded without a TSC has 0 for its time, as there.
    """

    def __init__(self) -> None:
        """Start with no record seen on any CPU."""
        self._last: dict[int, int] = {}

    def lines(self, batch: pl.DataFrame) -> list[str]:
        """Give a line a record: `CPU0  TSC (+  cycles)  name        [ field = value, ... ]`."""
        shown = _formatted(self._timed(batch), lambda shown: (_lower(shown), _bracketed(shown)))
        name = pl.col("name").str.pad_end(10)
        about = pl.concat_str(name, "text", separator="  ").str.strip_chars_end(" ")
        since = _text("since").str.pad_start(8)
        lines = shown.select(pl.format("CPU{}  {} (+{})  {}", "stream", "time", since, about))
        return lines.to_series().to_list()

    def _timed(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Add `time`, and `since`: the cycles since the record before on the same CPU."""
        own = pl.when("has_tsc").then("tsc_hi")
        timed = batch.with_columns(time=own)
        carried = pl.col("stream").replace_strict(self._last, default=None, return_dtype=pl.Int64)
        before = pl.col("time").forward_fill().shift(1).over("stream").fill_null(carried)
        last = timed.drop_nulls("time").group_by("stream").agg(pl.col("time").last())
        self._last |= dict(last.iter_rows())
        return timed.with_columns(since=pl.col("time") - before).with_columns(
            pl.col("time", "since").fill_null(0)
        )


def who() -> pl.Expr:
    """Name the vCPU of a row: d0v1, d0, idle, or - where it is not known."""
    whole = pl.format("d{}v{}", "dom", "vcpu")
    named = pl.coalesce(whole, pl.format("d{}", "dom"), pl.lit("-"))
    return pl.when(pl.col("dom") == IDLE_DOMAIN).then(pl.lit("idle")).otherwise(named)


def _text(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.String)


def _formatted(batch: pl.DataFrame, style: Callable[[Shape], tuple[str, str]]) -> pl.DataFrame:
    """Add `name` and `text` in a style, shape by shape, and give the records in their order."""
    if batch.is_empty():
        return batch.with_columns(name=pl.lit(""), text=pl.lit(""))
    keys = ["event", "n_words", "detail"]
    groups = batch.with_columns(detail=_detail()).partition_by(keys, as_dict=True)
    parts = []
    for (event, n_words, of), group in groups.items():
        shown = shape(event, n_words, of)
        name, template = style(shown)
        columns = [_values(group, field) for field in shown.fields]
        text = list(map(template.format, *columns)) if columns else [template] * group.height
        parts.append(
            group.with_columns(pl.lit(name).alias("name"), pl.Series("text", text, pl.String)),
        )
    return pl.concat(parts).sort("seq").drop("detail")


def _detail() -> pl.Expr:
    """Give `events.detail` of each record."""
    event = pl.col("event")
    detail = (
        pl.when(event.is_in([*PV_HYPERCALLS, VMMCALL]))
        .then("w0")
        .when(event.is_in([*CALLS, FACT]))
        .then(pl.col("w1") & 0xFF)
    )
    return detail.fill_null(0)


def _values(records: pl.DataFrame, field: Field) -> list[int | str]:
    """Take the value of a field from the words of each record."""
    if not field.is_text:
        return records.select(_number(field)).to_series().to_list()
    return [field.value(_payload(words)) for words in records.select(WORDS).iter_rows()]


def _payload(words: tuple[int | None, ...]) -> bytes:
    return b"".join((word or 0).to_bytes(4, "little") for word in words)


def _number(field: Field) -> pl.Expr:
    first, shift = divmod(field.offset, 4)
    word = pl.col(f"w{first}")
    if field.size == 8:
        value = word.cast(pl.UInt64) + pl.col(f"w{first + 1}").cast(pl.UInt64) * (1 << 32)
    else:
        value = word // (1 << 8 * shift) % (1 << 8 * field.size) if field.size < 4 else word
    return value.reinterpret(signed=True) if field.is_signed else value


def _lower(shown: Shape) -> str:
    name = shown.name.lower().replace("->", "_to_")
    return name.removeprefix("runstate_change ")


def _bracketed(shown: Shape) -> str:
    fields = shown.template.split()
    return f"[ {', '.join(fields).replace('=', ' = ')} ]" if fields else ""
