"""The policy of an audit: limits that are met or not, and files that are refused with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from echosdk import InputError
from echosdk.privacy.policy import Limit, judge, read_policy
from echosdk.privacy.statistics import Figure, share

FOUND = share("probe.exact.still", 95, 100, better="higher", what="patients")  # 0.887 to 0.984
NOT_MEASURED = Figure(name="innocents.video", better="lower", n=0, what="patients", note="no test split")


@pytest.mark.parametrize(
    ("limit", "met"),
    [
        (Limit(figure="probe.exact.still", at_least=0.88, bound="low", why=""), True),
        (Limit(figure="probe.exact.still", at_least=0.89, bound="low", why=""), False),
        (Limit(figure="probe.*.still", at_least=0.95, bound="value", why=""), True),
        (Limit(figure="probe.exact.still", at_most=0.98, bound="high", why=""), False),
        (Limit(figure="innocents.*", at_most=0.5, bound="high", why=""), False),  # not measured
        (Limit(figure="prob.exact.still", at_least=0.0, bound="low", why=""), False),  # there is none such
        (Limit(figure="innocents.*", at_most=0.0, bound="value", why=""), False),
    ],
)
def test_a_limit_is_met_by_the_bound_that_it_names_and_by_nothing_that_was_not_measured(limit: Limit, met: bool) -> None:
    findings = judge([limit], [FOUND, NOT_MEASURED])
    assert [finding.met for finding in findings] == [met]


def test_echosdks_own_policy_gives_a_reason_for_every_limit() -> None:
    limits = read_policy()
    assert len(limits) == len({limit.figure for limit in limits}) > 5
    assert all(limit.why for limit in limits)
    (holes,) = (limit for limit in limits if limit.figure == "holes.rejections-a-patient")
    assert (holes.at_most, holes.bound) == (0.1, "high")
    assert holes.why.startswith("what is missing around a patient must not be visible in what was published")


GOOD = '[[limit]]\nfigure = "a"\nbound = "low"\nwhy = "b"\nat_least = 1'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[limit]", "not valid TOML: "),
        ("", "wants tables [[limit]], at least one, and nothing else"),
        (f"{GOOD}\n[other]", "wants tables [[limit]], at least one, and nothing else"),
        (GOOD.replace("bound", "bond"), "limit 1: bond: no such key; choose from figure, bound, why, at_least, at_most"),
        (GOOD.replace("= 1", '= "1"'), "limit 1: at_least: wants a float, got '1'"),
        (GOOD.replace('"low"', '"lo"'), "limit 1: "),
        (GOOD.replace('why = "b"\n', ""), "limit 1: why is missing"),
        (GOOD + "\nat_most = 2", "limit 1: a: wants one of at_least and at_most"),
    ],
)
def test_a_policy_that_is_wrong_is_refused_with_file_and_key(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_policy(str(path))
    assert str(error.value).startswith(f"{path}: {says}")


def test_a_policy_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--policy .*none.toml: cannot be read: No such file"):
        read_policy(str(tmp_path / "none.toml"))
