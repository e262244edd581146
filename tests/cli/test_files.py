"""What the argument of `ttt talk`, `speak` and `transcribe` is taken for: a text, a file, or a pipe."""

import io
import os
import threading
from pathlib import Path

import pytest

from ttt_cli.checks import check_readable
from ttt_cli.talk import _question, _text, recording


@pytest.mark.parametrize("question", ["What is two plus three? " * 30, "and/or", "/ is what?", "What is 7/2?", "hm..."])
def test_a_written_question_is_no_file_however_long_it_is(tmp_path, monkeypatch, question):
    monkeypatch.chdir(tmp_path)
    assert _question(question, None, []) == (question, None)


@pytest.mark.parametrize("name", ["./recording", "/nowhere/recording", "../recording", "a question.mp4", "CALL.WAV"])
def test_a_path_that_leads_nowhere_is_no_question(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        _question(name, None, [])


def test_the_text_of_a_file_is_read_aloud_and_not_its_name(tmp_path):
    file = tmp_path / "story.txt"
    file.write_text("Es grünt so grün.\n", encoding="utf-8")
    assert _text(str(file), None) == "Es grünt so grün.\n"
    assert _text(None, str(file)) == str(file)  # --text is a text, whatever it looks like
    file.write_bytes(b"RIFF\xff\xfe")
    with pytest.raises(ValueError, match="no text in UTF-8"):
        _text(str(file), None)
    file.write_text(" \n")
    with pytest.raises(ValueError, match="empty"):
        _text(str(file), None)


def test_the_name_of_a_missing_text_file_is_not_read_aloud(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        _text(str(tmp_path / "stroy.TXT"), None)
    assert _text("Read story.txt", None) == "Read story.txt"
    assert _text(None, "story.txt") == "story.txt"


def test_a_folder_is_no_question(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hello" / "questions").mkdir(parents=True)
    with pytest.raises(IsADirectoryError, match="name the files in it"):
        _question("hello/questions", None, [])
    assert _question("hello", None, []) == ("hello", None)  # a word, although a folder has this name


def test_a_dash_is_stdin_whatever_files_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-").write_text("From a file.")
    monkeypatch.setattr("sys.stdin", io.StringIO("From stdin."))
    assert _text("-", None) == "From stdin."


def test_a_pipe_by_name_is_read_whole(tmp_path):
    """As `ttt transcribe <(ffmpeg ...)` gives it; it cannot seek, which reading audio needs."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_readable([pipe])
    threading.Thread(target=pipe.write_bytes, args=(b"RIFF",)).start()
    assert recording(pipe) == b"RIFF"
    assert recording(Path(__file__)) == Path(__file__)
