"""What the page's timeline draws: frames of slices, marks and arrows on lanes.

A lane is a vCPU, or a pCPU with the vCPU that ran on it. Times are TSC cycles since the first thing
drawn; where a domain has a clock of its own, the middle of the interval in which they lie.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import polars as pl

from evtrace.analysis.report import Report
from evtrace.timeline import Kind, Runstate, schema
from evtrace.tracefile.facts import Facts
from evtrace.tracefile.lines import IDLE_DOMAIN
from evtrace.tracefile.texts import log_lines
from evtrace.verdicts import UNPROVOKED_CAUSES, ContributionKind
from evtrace.xen.abi import EvtchnOp
from evtrace.xen.ops import arg_names

MAX_MARKS = 1_250_000
"""So many slices, marks and arrows fit into a page that opens at once; the first ones are kept."""

MAX_LANES = 64
"""So many vCPUs are drawn, those in which most happens."""

MAX_TEXTS = 2_000
"""So many different reasons, calls and log lines are told in words."""

STORY_REACH = 8
"""The first stretch shown grows up to so many times for the next run of the same port."""

Frames = Callable[[], Iterable[pl.DataFrame]]

_DRAWN = (
    Kind.CALL_ENTER,
    Kind.CALL_EXIT,
    Kind.UPCALL_ENTER,
    Kind.UPCALL_EXIT,
    Kind.RUNSTATE,
    Kind.TEXT,
)
_ARROWS = [kind.value for kind in (ContributionKind.SEND, ContributionKind.IPI)]
_VCPU = ["dom", "vcpu"]
_LAST = 1 << 53
"""The highest number of cycles that a page's scripts can hold exactly."""


@dataclass(frozen=True, slots=True)
class Tracks:
    """Frames to draw; in each, `start` is ascending and `lane` a row of `lanes`."""

    first_tsc: int
    lanes: pl.DataFrame
    """`dom`, `vcpu`, `name` of the domain, `uncertainty`: times lie so many cycles to either
    side."""
    pcpus: list[int]
    marks: dict[str, pl.DataFrame]
    """`runs`, `upcalls`, `calls`, `sends`, `arrows`, `logs`, and `occupancy`, whose `lane` is a
    place in `pcpus`."""
    kept: int
    total: int
    """Marks that are drawn, and that there are."""
    lanes_left_out: int

    @property
    def length(self) -> int:
        """Cycles from the first thing drawn to the end of the last."""
        ends = [_ends(frame).max() for frame in self.marks.values()]
        return max((end for end in ends if isinstance(end, int)), default=0)


def make_tracks(report: Report, timeline: Frames) -> Tracks:
    """Lay out the runs and sends of a report, and what else the rows of its timeline show."""
    rows = _drawn_rows(timeline)
    marks = {
        "runs": _runs(report.runs),
        "upcalls": _upcalls(report.runs, rows),
        "calls": _calls(rows),
        "sends": _sends(report.sends),
        "arrows": _arrows(report.runs),
        "logs": _logs(rows),
    }
    facts = report.source.facts
    centre = _centre(facts)
    marks = {
        name: frame.with_columns(start=pl.col("start") + centre) for name, frame in marks.items()
    }
    marks["occupancy"] = _occupancy(rows)
    total = sum(frame.height for frame in marks.values())
    marks = _first_ones(marks)
    lanes = _lanes(marks)
    shown = lanes.head(MAX_LANES).sort(_VCPU)
    pcpus = marks["occupancy"]["pcpu"].unique().sort().to_list()
    return Tracks(
        first_tsc := _first(marks),
        _described(shown, facts),
        pcpus,
        _placed(marks, shown, pcpus, first_tsc),
        sum(frame.height for frame in marks.values()),
        total,
        lanes.height - shown.height,
    )


def _drawn_rows(timeline: Frames) -> pl.DataFrame:
    """Take the rows that are drawn; sends come from the report."""
    send = pl.col("kind").is_in([int(Kind.CALL_ENTER), int(Kind.CALL_EXIT)])
    send &= pl.col("op") == EvtchnOp.SEND
    wanted = pl.col("kind").is_in([int(kind) for kind in _DRAWN]) & ~send.fill_null(value=False)
    columns = ["seq", "tsc_lo", "pcpu", *_VCPU, "kind", "op", "call_id", "rc"]
    columns += [f"a{place}" for place in range(6)]
    nothing = schema().to_frame().select(columns)
    return pl.concat([nothing, *(batch.filter(wanted).select(columns) for batch in timeline())])


# --- what happens on vCPUs ---------------------------------------------------------------------


def _runs(runs: pl.DataFrame) -> pl.DataFrame:
    return runs.sort("tsc", "seq").select(
        "seq",
        *_VCPU,
        "port",
        "irq",
        "device",
        "cause",
        "evidence",
        "work",
        _told("reason"),
        start="tsc",
        lasts=pl.col("exit_tsc") - pl.col("tsc"),
        routes=pl.col("routes").list.join(" + "),
    )


def _upcalls(runs: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Give upcalls that were recorded, or that a run says it was in; many leave no end."""
    in_runs = (
        runs.drop_nulls("upcall_tsc")
        .group_by(*_VCPU, start="upcall_tsc")
        .agg(reached=pl.max_horizontal("tsc", "exit_tsc").max())
    )
    kinds = [int(Kind.UPCALL_ENTER), int(Kind.UPCALL_EXIT)]
    recorded = _paired(rows.filter(pl.col("kind").is_in(kinds)), Kind.UPCALL_ENTER, _VCPU)
    return (
        recorded.select(*_VCPU, "start", "end")
        .join(in_runs, on=[*_VCPU, "start"], how="full", coalesce=True)
        .select(*_VCPU, "start", lasts=pl.coalesce("end", "reached") - pl.col("start"))
        .sort("start")
    )


def _calls(rows: pl.DataFrame) -> pl.DataFrame:
    """Give calls other than sends, each with its arguments in words."""
    kinds = [int(Kind.CALL_ENTER), int(Kind.CALL_EXIT)]
    number = pl.when(pl.col("call_id") > 0).then("call_id")
    calls = rows.filter(pl.col("kind").is_in(kinds)).with_columns(
        number=number, alone=pl.when(number.is_null()).then("vcpu")
    )
    return (
        _paired(calls, Kind.CALL_ENTER, ["dom", "op", "number", "alone"])
        .with_columns(text=_call_text())
        .select(
            "seq",
            *_VCPU,
            "start",
            _told("text"),
            pl.col("rc").cast(pl.String),
            lasts=pl.col("end") - pl.col("start"),
        )
    )


def _paired(rows: pl.DataFrame, enter: Kind, key: list[str]) -> pl.DataFrame:
    """Join each entry with the row of its key that comes next, if that is an exit."""
    is_exit = pl.col("kind").shift(-1).over(key) != enter
    return rows.with_columns(
        start="tsc_lo",
        end=pl.when(is_exit).then(pl.col("tsc_lo").shift(-1).over(key)),
        rc=pl.when(is_exit).then(pl.col("rc").shift(-1).over(key)),
    ).filter(pl.col("kind") == enter)


def _call_text() -> pl.Expr:
    """Show a call as `bind_interdomain(remote_dom=1, remote_port=8)`."""
    text = pl.format("EVTCHNOP {}", pl.col("op"))
    for op in EvtchnOp:
        args = (pl.format(f"{name}={{}}", f"a{k}") for k, name in enumerate(arg_names(op)))
        inside = pl.concat_str(*args, pl.lit(""), separator=", ", ignore_nulls=True)
        shown = pl.format(f"{op.name.lower()}({{}})", inside.str.strip_suffix(", "))
        text = pl.when(pl.col("op") == op).then(shown).otherwise(text)
    return text


def _sends(sends: pl.DataFrame) -> pl.DataFrame:
    return sends.sort("tsc", "seq").select(
        "seq",
        *_VCPU,
        "port",
        "fate",
        _told("reason"),
        start="tsc",
        to=pl.format("d{}:{}", "to_dom", "to_port"),
    )


def _arrows(runs: pl.DataFrame) -> pl.DataFrame:
    """Give an arrow from each send or bind to the run that answers it; `run` is the run's seq."""
    cause = pl.col("contributors").struct
    drawn = [*_ARROWS, ContributionKind.BIND.value]
    return (
        runs.select("contributors", run="seq")
        .explode("contributors")
        .drop_nulls("contributors")
        .select(
            "run",
            start=cause.field("tsc"),
            dom=cause.field("dom"),
            vcpu=cause.field("vcpu"),
            kind=cause.field("kind"),
        )
        .filter(pl.col("kind").is_in(drawn))
        .sort("start")
    )


def _logs(rows: pl.DataFrame) -> pl.DataFrame:
    lines = log_lines(rows).rename({"tsc": "start"}).sort("start")
    return lines.select("seq", *_VCPU, "start", _told("text")).drop_nulls("text")


def _told(column: str) -> pl.Expr:
    """Keep so many different texts of a column; what each of a million says is too much."""
    return pl.when(pl.col(column).rank("dense") <= MAX_TEXTS).then(column).alias(column)


# --- what happens on pCPUs ---------------------------------------------------------------------


def _occupancy(rows: pl.DataFrame) -> pl.DataFrame:
    """Give which vCPU ran on a pCPU and how long."""
    states = rows.filter(
        (pl.col("kind") == Kind.RUNSTATE)
        & pl.col("pcpu").is_not_null()
        & (pl.col("dom") != IDLE_DOMAIN)
    ).with_columns(runs=pl.col("op") % 16 == Runstate.RUNNING, ran=pl.col("op") // 16)
    ours = states.filter(pl.col("runs") | (pl.col("ran") == Runstate.RUNNING))
    return (
        ours.with_columns(end=pl.col("tsc_lo").shift(-1).over("pcpu"))
        .filter("runs")
        .select(
            "pcpu",
            start="tsc_lo",
            lasts=pl.col("end") - pl.col("tsc_lo"),
            who=pl.format("d{}v{}", *_VCPU),
        )
    )


# --- together ----------------------------------------------------------------------------------


def _centre(facts: Facts) -> pl.Expr:
    """Give half the width of the interval in which the clock of a row's domain lies."""
    halves = {dom: width // 2 for dom, width in facts.clock_widths.items()}
    if not halves:
        return pl.lit(0, pl.Int64)
    return pl.col("dom").replace_strict(halves, default=0, return_dtype=pl.Int64)


def _first_ones(marks: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """Keep what begins first, if there is too much."""
    if sum(frame.height for frame in marks.values()) <= MAX_MARKS:
        return marks
    starts = pl.concat([frame["start"] for frame in marks.values()]).sort()
    return {
        name: frame.filter(pl.col("start") < starts[MAX_MARKS]) for name, frame in marks.items()
    }


def _first(marks: dict[str, pl.DataFrame]) -> int:
    starts = [frame["start"].min() for frame in marks.values()]
    return min((start for start in starts if isinstance(start, int)), default=0)


def _lanes(marks: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Give the vCPUs on which something is drawn, those with most of it first."""
    on_vcpus = [frame.select(_VCPU) for name, frame in marks.items() if name != "occupancy"]
    counted = pl.concat(on_vcpus).drop_nulls().group_by(_VCPU).len()
    return counted.sort("len", *_VCPU, descending=[True, False, False]).select(_VCPU)


def _described(lanes: pl.DataFrame, facts: Facts) -> pl.DataFrame:
    names = [facts.domain_names.get(dom) for dom in lanes["dom"]]
    return lanes.with_columns(pl.Series("name", names, pl.String), uncertainty=_centre(facts))


def _placed(
    marks: dict[str, pl.DataFrame],
    lanes: pl.DataFrame,
    pcpus: list[int],
    first_tsc: int,
) -> dict[str, pl.DataFrame]:
    """Count times from the first, and give each mark its lane; those without one go."""
    numbered = lanes.with_row_index("lane")
    placed = {}
    for name, frame in marks.items():
        since = frame.with_columns(start=(pl.col("start") - first_tsc).clip(0, _LAST))
        if "lasts" in since.columns:
            since = since.with_columns(pl.col("lasts").clip(0, _LAST))
        if name == "occupancy":
            places = dict(zip(pcpus, range(len(pcpus)), strict=True))
            lane = pl.col("pcpu").replace_strict(places, return_dtype=pl.UInt32)
            placed[name] = since.with_columns(lane=lane).drop("pcpu").sort("start")
        else:
            on = since.join(numbered, on=_VCPU, how="inner")
            placed[name] = on.drop(_VCPU).sort("start", maintain_order=True)
    return placed | {"arrows": _aimed(placed["arrows"], placed["runs"])}


def _aimed(arrows: pl.DataFrame, runs: pl.DataFrame) -> pl.DataFrame:
    """Let arrows name the row of the run in which they end."""
    rows = runs.select("seq").with_row_index("row")
    aimed = arrows.join(rows, left_on="run", right_on="seq", how="inner")
    return aimed.select("start", "lane", "kind", run="row").sort("start")


def _ends(frame: pl.DataFrame) -> pl.Series:
    """Give the end of each slice, or the time of each mark."""
    return frame["start"] + frame["lasts"].fill_null(0) if "lasts" in frame else frame["start"]


def story(tracks: Tracks) -> tuple[int, int] | None:
    """Give the stretch to show first: the first run that nobody provoked, and what led to it.

    The next run of the same port is in it too, unless it is far.
    """
    doms = tracks.lanes.select("dom").with_row_index("lane")
    runs = tracks.marks["runs"].with_row_index("row").join(doms, on="lane", maintain_order="left")
    causes = sorted(cause.value for cause in UNPROVOKED_CAUSES)
    first = runs.filter(pl.col("cause").is_in(causes)).head(1)
    if first.is_empty():
        return None
    arrows = tracks.marks["arrows"].join(first, left_on="run", right_on="row", how="semi")
    begin = min([*first["start"], *arrows["start"]])
    later = runs.join(first, on=["dom", "port"], how="semi").filter(
        pl.col("row") > first["row"].item()
    )
    end, *ends = _ends(pl.concat([first, later.head(1)])).to_list()
    near = begin + STORY_REACH * max(end - begin, 1)
    end = max([end, *(one for one in ends if one <= near)])
    margin = max((end - begin) // 8, 1)
    return max(0, begin - margin), min(end + margin, max(tracks.length, 1))
