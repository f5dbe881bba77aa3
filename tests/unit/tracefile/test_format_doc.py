"""docs/trace-format.md says what the code says."""

import re
from pathlib import Path

from evtrace.tracefile.damage import DamageKind
from evtrace.tracefile.family import KIND_WORDS, MAX_WORDS, FactKey, family_event

DOC = (Path(__file__).parents[3] / "docs" / "trace-format.md").read_text()


def table_rows(text):
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_the_word_budget_of_every_kind():
    kinds = DOC.split("<!-- kinds -->")[1].split("<!-- /kinds -->")[0]
    documented = {
        row[1]: (row[0].strip("`"), re.findall(r"`(\w+)`", row[2]), int(row[3]))
        for row in table_rows(kinds)[2:]
    }
    coded = {
        kind.name: (f"{family_event(kind):08x}", list(words), 1 + len(words))
        for kind, words in KIND_WORDS.items()
    }
    assert documented == coded
    assert max(budget for _, _, budget in coded.values()) == MAX_WORDS


def test_every_fact_and_every_kind_of_damage():
    facts = table_rows(DOC.split("### Facts")[1].split("## Streams")[0])[2:]
    assert {(int(row[0]), row[1]) for row in facts} == {(int(key), key.name) for key in FactKey}
    damage = table_rows(DOC.split("## Damage")[1])[2:]
    assert [row[0] for row in damage] == [kind.value for kind in DamageKind]
