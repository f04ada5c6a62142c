"""A budget has a unit, runs out, and no trial is started that it doesn't hold."""

from __future__ import annotations

import pytest

from afina.advice.search.budget import Budget, TrialDurations, describe_seconds, parse_budget
from afina.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20m", 1200), ("1h30m", 5400), ("90s", 90), ("1.5h", 5400), (" 2M ", 120), ("1h2m3s", 3723)],
)
def test_a_budget_is_a_time(text: str, seconds: float) -> None:
    assert parse_budget(text) == seconds


def test_a_budget_without_a_unit_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_budget("20")
    assert str(caught.value) == (
        "a budget needs a unit\n  found: '20'\n"
        "  expected: hours, minutes and seconds, such as 20m, 1h30m or 90s\n  do: --budget 20m"
    )


@pytest.mark.parametrize(
    ("given", "what", "remedy"),
    [
        (30, "a budget needs a unit", 'budget="30m"'), (2.5, "a budget needs a unit", 'budget="2.5m"'),
        (-3, "the budget is not a time", 'budget="20m"'), (True, "the budget is not a time", 'budget="20m"'),
        ([], "the budget is not a time", 'budget="20m"'),
    ],
)  # fmt: skip
def test_a_budget_that_is_no_text_is_refused_in_the_words_of_python(given: object, what: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_budget(given)
    assert str(caught.value) == (
        f"{what}\n  found: {given!r}\n  expected: hours, minutes and seconds, such as 20m, 1h30m or 90s\n  do: {remedy}"
    )


@pytest.mark.parametrize("text", ["", "m", "0m", "0", "-5m", "5m1h", "twenty", "5 m 3", "5d"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^the budget is not a time\n"):
        parse_budget(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.84, "0.8 s"), (-3, "0.0 s"), (45.2, "45 s"), (72, "1m12s"), (59.7, "1m00s"), (3900, "1h05m")],
)
def test_a_time_is_described(seconds: float, text: str) -> None:
    assert describe_seconds(seconds) == text


def test_a_budget_runs_out_and_what_was_used_before_counts() -> None:
    now = [100.0]
    budget = Budget(60.0, used_seconds=20.0, clock=lambda: now[0])
    assert (budget.used_seconds, budget.left_seconds) == (20.0, 40.0)
    now[0] += 50.0
    assert (budget.used_seconds, budget.left_seconds) == (70.0, -10.0)


def test_durations_are_learned() -> None:
    durations = TrialDurations()
    assert durations.expect("lora", 1000) == 0.0
    durations.record("lora", seconds=12.0, train_seconds=10.0, planned_rows=1000)
    assert durations.expect("lora", 2000) == pytest.approx(2.0 + 20.0)
    durations.record("lora", seconds=6.0, train_seconds=2.0, planned_rows=1000)
    assert durations.expect("lora", 1000) == pytest.approx(3.0 + 6.0)
    assert durations.expect("full", 1000) == pytest.approx(2 * 3.0 + 2 * 6.0), "what wasn't tried may be slower"
    durations.record_rate("full", 0.5)
    assert durations.expect("full", 1000) == pytest.approx(2 * 3.0 + 500.0), "its first steps tell it"
    durations.record("feature-extraction", seconds=1.0, train_seconds=0.0, planned_rows=0)
    assert durations.expect("feature-extraction", 0) == pytest.approx(1.0)
