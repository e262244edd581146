"""The README's examples run as they stand, from a checkout."""

import re

import pytest
from checkout import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_readme_has_the_five_lines_the_pipeline_a_stream_and_a_conversation():
    assert len(PYTHON_BLOCKS) == 4
    assert "AutoModel.from_pretrained" in PYTHON_BLOCKS[0]
    assert 'pipeline("any-to-any"' in PYTHON_BLOCKS[1]
    assert "processor.stream_reply" in PYTHON_BLOCKS[2]
    assert "TttConversation(" in PYTHON_BLOCKS[3]


@pytest.mark.parametrize("number", range(4))
def test_the_readme_s_python_runs(number, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # what an example writes must not land in the checkout
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints", target_is_directory=True)
    names: dict = {}
    if number == 2:  # the stream goes on from the first example
        exec(compile(PYTHON_BLOCKS[0], "README.md block 0", "exec"), names)
        (tmp_path / "reply.wav").unlink()
        capsys.readouterr()
    exec(compile(PYTHON_BLOCKS[number], f"README.md block {number}", "exec"), names)
    printed = capsys.readouterr().out.strip().splitlines()
    assert len(printed[-1].split()) >= 2  # the answer's text
    if number in (0, 2):
        assert (tmp_path / "reply.wav").stat().st_size > 1000
    elif number == 1:
        assert names["sound"].ndim == 1
        assert len(names["sound"]) > 1000
    else:
        assert len(printed) == 2 and len(names["conversation"].turns) == 1


def test_ci_runs_the_readme_s_test_command():
    command = re.search(r"<!-- test command -->\n```bash\n(.*?)\n```", README, flags=re.DOTALL)
    assert command is not None
    assert command[1].endswith(".venv/bin/pytest")
