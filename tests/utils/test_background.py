from __future__ import annotations

import threading

from emloop_mtl.utils.background import Background


def test_work_is_done_in_another_thread_and_its_end_is_told() -> None:
    go, told = threading.Event(), threading.Event()
    threads = []

    def work(stop: threading.Event) -> None:
        assert go.wait(60)
        threads.append(threading.current_thread())

    job = Background(work, told.set)
    assert not job.has_ended
    go.set()
    job.wait()
    assert job.has_ended
    assert job.error is None
    assert told.wait(60)
    assert threads != [threading.main_thread()]


def test_an_error_is_kept_and_work_can_be_told_to_stop() -> None:
    def work(stop: threading.Event) -> None:
        assert stop.wait(60)
        raise KeyError("stopped")

    told = threading.Event()
    job = Background(work, told.set)
    job.stop()
    job.wait()
    assert repr(job.error) == "KeyError('stopped')"
    assert told.wait(60)
