"""One job a tab, and one turn at a time."""

from __future__ import annotations

import threading
import time

from studio.session import Job, Jobs


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


def in_line(jobs: Jobs, *tabs: str) -> list[Job]:
    found = [jobs.begin(tab) for tab in tabs]
    for job in found:
        jobs.line_up(job)
    return found


def test_jobs_have_their_turn_in_the_order_of_the_line() -> None:
    jobs = Jobs()
    first, second, third = in_line(jobs, "a", "b", "c")
    assert [jobs.ahead(job) for job in (first, second, third)] == [0, 1, 2]
    jobs.end(second)
    assert [jobs.ahead(job) for job in (first, third)] == [0, 1]
    jobs.end(first)
    jobs.end(first)
    assert jobs.ahead(third) == 0


def test_a_job_that_has_not_lined_up_is_in_nobodys_way() -> None:
    jobs = Jobs()
    jobs.begin("a")
    (second,) = in_line(jobs, "b")
    assert jobs.ahead(second) == 0


def test_a_job_that_was_told_to_stop_has_its_turn_until_it_ends() -> None:
    jobs = Jobs()
    first, second = in_line(jobs, "a", "b")
    jobs.stop("a")
    assert jobs.ahead(second) == 1
    jobs.end(first)
    assert jobs.ahead(second) == 0


def test_who_waits_is_woken_by_a_free_place_and_by_a_stop() -> None:
    jobs = Jobs()
    first, second, third = in_line(jobs, "a", "b", "c")
    assert jobs.ahead(third, 0.01) == 2, "patience ends"
    start = time.monotonic()
    threading.Timer(0.05, jobs.end, [second]).start()
    assert jobs.ahead(third, 60) == 1
    threading.Timer(0.05, jobs.stop, ["c"]).start()
    assert jobs.ahead(third, 60) == 1 and third.cancel.is_set()
    assert jobs.ahead(first, 60) == 0
    assert time.monotonic() - start < 30
