"""Releases, and the link that says which one is current."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from diurna_agents.infrastructure.releases import Release, Releases, State
from diurna_schemas.errors import InvalidInput

MOMENT = datetime(2026, 11, 23, 22, 15, tzinfo=UTC)


def releases(path: Path) -> Releases:
    made = Releases(path / "app")
    made.prepare()
    return made


def add(into: Releases, name: str, state: State, created: int = 0) -> None:
    into.path(name).mkdir()
    record = Release(
        name=name, head="a" * 40, repository="/r", service=None, kind="wheel", state=state, created_at=f"{created:04}"
    )
    into.write(record)


def names(of: Releases) -> list[str]:
    return sorted(path.name for path in of.folder.iterdir())


def test_a_switch_is_one_link_that_says_where_it_leads(tmp_path: Path):
    made = releases(tmp_path)
    add(made, "one", "deployed")
    assert made.current() is None
    made.switch("one")
    assert made.current() == "one"
    assert made.link.readlink() == Path("releases/one")
    made.switch(None)
    assert made.current() is None
    assert not list(made.deploy_to.glob(".current-*"))


def test_names_sort_by_time_and_are_never_taken_twice(tmp_path: Path):
    made = releases(tmp_path)
    first = made.new_name("abcdef0123", MOMENT)
    assert first == "20261123T221500Z-abcdef0"
    made.path(first).mkdir()
    assert made.new_name("abcdef0123", MOMENT) == f"{first}-2"


def test_what_killed_deployments_left_is_cleaned_and_nothing_else(tmp_path: Path):
    made = releases(tmp_path)
    for name, state in (("good", "deployed"), ("half", "building"), ("ready", "installed"), ("bad", "failed")):
        add(made, name, state)
    begun = made.new_name("abcdef0123", MOMENT)
    made.path(begun).mkdir()
    (made.deploy_to / ".current-1234").symlink_to("releases/half")
    made.switch("good")
    assert made.clean() == [begun, "half", "ready"]
    assert names(made) == ["bad", "good"]
    assert made.current() == "good"
    assert not (made.deploy_to / ".current-1234").is_symlink()


def test_what_somebody_else_keeps_beside_the_releases_stays(tmp_path: Path):
    made = releases(tmp_path)
    (made.path("20230401120000") / "public").mkdir(parents=True)
    (made.folder / "notes.md").write_text("1.0: the first\n")
    assert made.clean() == []
    assert made.prune(1, needed=set()) == []
    assert names(made) == ["20230401120000", "notes.md"]


def test_a_release_switched_to_and_never_seen_healthy_is_not_what_is_gone_back_to(tmp_path: Path):
    made = releases(tmp_path)
    add(made, "old", "deployed", 1)
    add(made, "new", "deployed", 2)
    add(made, "killed", "switched", 3)
    made.switch("killed")
    assert made.to_go_back_to() == "new"
    made.switch("old")
    assert made.to_go_back_to() == "old"


def test_pruning_keeps_the_newest_the_current_and_the_last_failure(tmp_path: Path):
    made = releases(tmp_path)
    for number in range(5):
        add(made, f"good{number}", "deployed", number)
    for number in range(3):
        add(made, f"bad{number}", "failed", number)
    made.switch("good0")
    assert made.prune(2, needed={"good1", None}) == ["bad0", "bad1", "good2"]
    assert names(made) == ["bad2", "good0", "good1", "good3", "good4"]


def test_a_current_that_is_no_link_is_refused(tmp_path: Path):
    (tmp_path / "app" / "current").mkdir(parents=True)
    with pytest.raises(InvalidInput, match="deploy_to: its 'current' is not a link"):
        Releases(tmp_path / "app").prepare()


@pytest.mark.parametrize("target", ["elsewhere", "releases", "../other/releases/one"])
def test_a_current_that_leads_elsewhere_is_refused_and_let_be(tmp_path: Path, target: str):
    made = releases(tmp_path)
    made.link.symlink_to(target)
    with pytest.raises(InvalidInput, match=r"deploy_to: its 'current' leads to .*, which is none of its releases"):
        made.prepare()
    assert made.link.readlink() == Path(target)


def test_a_current_whose_release_is_gone_can_be_switched(tmp_path: Path):
    made = releases(tmp_path)
    made.link.symlink_to(made.path("gone"))
    made.prepare()
    assert made.current() is None


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path):
    (tmp_path / "app").write_text("")
    with pytest.raises(InvalidInput, match="deploy_to: cannot be used"):
        Releases(tmp_path / "app").prepare()


def test_a_damaged_record_is_no_record(tmp_path: Path):
    made = releases(tmp_path)
    add(made, "one", "deployed")
    (made.path("one") / "release.json").write_text('{"name": "one"')
    assert made.read("one") is None
