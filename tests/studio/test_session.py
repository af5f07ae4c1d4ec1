"""One job a tab."""

from __future__ import annotations

from studio.session import Jobs


def test_a_second_job_of_a_tab_stops_the_first_and_leaves_other_tabs_alone() -> None:
    jobs = Jobs()
    first, other, second = jobs.begin("a"), jobs.begin("b"), jobs.begin("a")
    assert [job.cancel.is_set() for job in (first, other, second)] == [True, False, False]
    assert len(jobs) == 2


def test_stop_stops_the_tab_once() -> None:
    jobs = Jobs()
    job = jobs.begin("a")
    assert jobs.stop("a") is job
    assert job.cancel.is_set()
    assert jobs.stop("a") is None
    assert jobs.stop("nobody") is None
    assert len(jobs) == 0


def test_an_old_job_that_ends_late_does_not_end_the_new_one() -> None:
    jobs = Jobs()
    old = jobs.begin("a")
    new = jobs.begin("a")
    jobs.end(old)
    assert not new.cancel.is_set()
    assert jobs.stop("a") is new
    jobs.end(new)
    assert len(jobs) == 0


def test_numbers_only_grow() -> None:
    jobs = Jobs()
    numbers = [jobs.number() for _ in range(100)] + [jobs.begin("a").number]
    assert numbers == sorted(set(numbers))
