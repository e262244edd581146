"""What is shown of long work on a terminal and in a log."""

import sys

import pytest

from finetune import progress
from finetune.progress import progress_bar


def test_a_log_has_no_bar_and_a_line_only_now_and_then(capsys, monkeypatch):
    assert list(progress_bar(range(3), desc="short")) == [0, 1, 2]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "LOG_SECONDS", 1e-9)
    with progress_bar(total=4, desc="long") as bar:
        bar.update(1)
        bar.update(3)
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first.startswith("long: 1 of 4, 00:00 so far, ") and last.startswith("long: 4 of 4, ")


@pytest.mark.parametrize("total", [None, 2])
def test_a_terminal_has_a_bar(capsys, monkeypatch, total):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress_bar(total=total, desc="work") as bar:
        bar.update(2)
    assert "\rwork: " in capsys.readouterr().err
