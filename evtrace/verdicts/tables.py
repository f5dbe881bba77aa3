"""The schemas of the tables that carry verdicts: a column for each field of an account."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl


def runs_schema() -> "pl.Schema":
    """Columns of the table of runs; one row a `Run`."""
    import polars as pl  # noqa: PLC0415  polars costs 0.3 s and `evtrace --help` needs none

    contribution = pl.Struct(
        {
            "kind": pl.String,
            "seq": pl.UInt64,
            "tsc": pl.Int64,
            "tsc_hi": pl.Int64,
            "dom": pl.UInt16,
            "vcpu": pl.UInt16,
            "port": pl.UInt32,
            "masked": pl.Boolean,
            "inferred": pl.String,
        },
    )
    columns: dict[str, pl.DataType | type[pl.DataType]] = {
        "seq": pl.UInt64,
        "dom": pl.UInt16,
        "vcpu": pl.UInt16,
        "port": pl.UInt32,
        "irq": pl.Int32,
        "tsc": pl.Int64,
        "tsc_hi": pl.Int64,
        "exit_tsc": pl.Int64,
        "upcall_tsc": pl.Int64,
        "cleared_tsc": pl.Int64,
        "eoi_tsc": pl.Int64,
        "unmask_tsc": pl.Int64,
        "cause": pl.String,
        "reason": pl.String,
        "routes": pl.List(pl.String),
        "evidence": pl.String,
        "work": pl.String,
        "work_cause": pl.String,
        "work_evidence": pl.String,
        "eoi_delay": pl.String,
        "eoi_delay_evidence": pl.String,
        "contributors": pl.List(contribution),
    }
    return pl.Schema(columns)


def moves_schema() -> "pl.Schema":
    """Columns of the table of moves; one row a `Move`."""
    import polars as pl  # noqa: PLC0415  polars costs 0.3 s and `evtrace --help` needs none

    numbers = {"dom": pl.UInt16, "port": pl.UInt32, "vcpu": pl.UInt32}
    return pl.Schema({"seq": pl.UInt64, "tsc": pl.Int64, **numbers})


def sends_schema() -> "pl.Schema":
    """Columns of the table of sends; one row a `Send`."""
    import polars as pl  # noqa: PLC0415  polars costs 0.3 s and `evtrace --help` needs none

    columns: dict[str, pl.DataType | type[pl.DataType]] = {
        "seq": pl.UInt64,
        "dom": pl.UInt16,
        "vcpu": pl.UInt16,
        "port": pl.UInt32,
        "to_dom": pl.UInt16,
        "to_port": pl.UInt32,
        "tsc": pl.Int64,
        "tsc_hi": pl.Int64,
        "rc": pl.Int32,
        "fate": pl.String,
        "reason": pl.String,
        "run_seq": pl.UInt64,
        "entered_tsc": pl.Int64,
        "routes": pl.List(pl.String),
    }
    return pl.Schema(columns)


def upcalls_schema() -> "pl.Schema":
    """Columns of the table of empty upcalls; one row an `EmptyUpcall`."""
    import polars as pl  # noqa: PLC0415  polars costs 0.3 s and `evtrace --help` needs none

    return pl.Schema(
        {
            "seq": pl.UInt64,
            "dom": pl.UInt16,
            "vcpu": pl.UInt16,
            "tsc": pl.Int64,
            "exit_tsc": pl.Int64,
            "verdict": pl.String,
            "reason": pl.String,
            "evidence": pl.String,
        },
    )
