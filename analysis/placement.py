"""Placement: on which vCPU each port's handler ran, and when bind_vcpu moved the port."""

import polars as pl

from evtrace.analysis.columns import port_name


def placement(runs: pl.DataFrame, moves: pl.DataFrame, told: list[int]) -> pl.DataFrame:
    """Count the runs of each port on each vCPU; `told` are the domains whose calls were captured.

    Columns: `port`, `device`, one a vCPU number that occurs (`v0`, `v1`, ...; null where the
    domain ran nothing there), `moves` (granted bind_vcpu of the port; null where not captured).
    """
    counted = runs.group_by("dom", "port", "device", "vcpu").agg(runs=pl.len().cast(pl.Int64))
    vcpus = sorted(counted["vcpu"].unique())
    used = counted.group_by("dom").agg(
        pl.col("vcpu").is_in([vcpu]).any().alias(f"used_{vcpu}") for vcpu in vcpus
    )
    wide = (
        counted.group_by("dom", "port", "device")
        .agg(
            pl.col("runs").filter(pl.col("vcpu") == vcpu).sum().alias(f"v{vcpu}") for vcpu in vcpus
        )
        .join(used, on="dom")
    )
    moved = moves.group_by("dom", "port").agg(moves=pl.len().cast(pl.Int64))
    return (
        wide.join(moved, on=["dom", "port"], how="left")
        .sort("dom", "port", "device")
        .select(
            port_name(),
            "device",
            *(pl.when(f"used_{vcpu}").then(f"v{vcpu}").alias(f"v{vcpu}") for vcpu in vcpus),
            pl.when(pl.col("dom").is_in(told)).then(pl.col("moves").fill_null(0)).alias("moves"),
        )
    )


def moved(moves: pl.DataFrame) -> pl.DataFrame:
    """List the granted bind_vcpu: `tsc`, `seq`, `port`, `to_vcpu`."""
    return moves.select("tsc", "seq", port_name(), pl.format("v{}", "vcpu").alias("to_vcpu"))
