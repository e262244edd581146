import gzip
import json
import os
import subprocess
from collections import Counter

import pytest

from finetune.data import asterisk_prompts
from finetune.data.asterisk_prompts import MANIFEST, fetch, licence, main, read_transcripts, unusable

TRANSCRIPTS = """\ufeff; Core sounds

activated: Attivato.
digits/1: uno
beep: un suono beep
silence/1: (silence)
broken: Il tempo sar? esattamente.
fine: Va bene?  Sì.
remark: Spiacente, [quello] non va.
twice: twice: detto due volte
missing: senza suono
empty:
"""
COPYRIGHT = """Format: http://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2003, Someone Else
License: CC-BY-SA-3.0

Files: it-*
Copyright: 2012 A Speaker, <http://example.org>
License: CC-BY-3.0
Comment: more
 .
 lines
"""


@pytest.fixture
def root(tmp_path):
    sounds = tmp_path / "root" / "usr/share/asterisk/sounds/it_IT_m_Speaker"
    documents = tmp_path / "root" / "usr/share/doc/asterisk-core-sounds-it"
    (sounds / "digits").mkdir(parents=True)
    documents.mkdir(parents=True)
    for name in ("activated", "digits/1", "beep", "broken", "fine", "remark", "twice", "empty"):
        (sounds / f"{name}.g722").write_bytes(b"\0" * 100)
    (documents / "core-sounds-it.txt.gz").write_bytes(gzip.compress(TRANSCRIPTS.encode()))
    (documents / "copyright").write_text(COPYRIGHT)
    return tmp_path / "root"


def test_the_manifest_holds_what_can_be_learnt_from_with_its_licence(root, tmp_path, capsys):
    main(["it", "--out", str(tmp_path), "--root", str(root)])
    lines = [json.loads(line) for line in (tmp_path / MANIFEST).read_text().splitlines()]
    assert {line["id"]: line["text"] for line in lines} == {
        "activated": "Attivato.", "digits/1": "uno", "fine": "Va bene? Sì.", "twice": "detto due volte",
    }  # fmt: skip
    first = lines[0]
    assert (first["language"], first["speaker"], first["licence"]) == ("it", "Speaker", "CC-BY-3.0")
    assert first["attribution"] == "2012 A Speaker, <http://example.org>"
    assert first["audio"] == "root/usr/share/asterisk/sounds/it_IT_m_Speaker/activated.g722", "relative to the manifest"
    assert capsys.readouterr().out.split("\n")[0].split() == ["4", "written"]


def test_what_is_left_out_has_a_reason():
    reasons = Counter(unusable(name, words) for name, words in read_transcripts(TRANSCRIPTS.lstrip("\ufeff")))
    assert reasons == {
        None: 5, "no speech": 2, "damaged letters in the transcript": 1, "a remark in the transcript": 1,
        "no transcript": 1,
    }  # fmt: skip


def test_the_licence_is_the_languages_own_or_else_that_of_all_files():
    assert licence(COPYRIGHT, "it")["licence"] == "CC-BY-3.0"
    assert licence(COPYRIGHT, "en")["attribution"] == "2003, Someone Else"
    with pytest.raises(ValueError, match="names no licence"):
        licence("Format: x\n", "it")


def test_a_root_without_the_packages_is_an_error_with_the_way_out(tmp_path):
    with pytest.raises(FileNotFoundError, match="--root is the folder that has usr/share in it"):
        main(["ru", "--out", str(tmp_path), "--root", str(tmp_path)])


def test_packages_are_fetched_once_and_unpacked_without_being_installed(tmp_path, monkeypatch):
    commands = []

    def run(command, cwd, **options):
        commands.append(command[:2])
        if command[1] == "download":
            (cwd / f"{command[2]}_1.0_all.deb").touch()
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(asterisk_prompts.shutil, "which", lambda tool: f"/usr/bin/{tool}")
    monkeypatch.setattr(asterisk_prompts.subprocess, "run", run)
    for _ in range(2):
        assert fetch("it", tmp_path) == tmp_path / "root"
    assert commands.count(["apt-get", "download"]) == 2
    assert all(command in (["apt-get", "download"], ["dpkg-deb", "-x"]) for command in commands)


def test_without_apt_the_error_names_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "environ", {**os.environ, "PATH": str(tmp_path)})
    with pytest.raises(FileNotFoundError, match="give the folder as --root"):
        fetch("it", tmp_path)


def test_a_failed_download_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(asterisk_prompts.shutil, "which", lambda tool: tool)
    failed = subprocess.CompletedProcess([], 100, "", "E: Unable to locate package")
    monkeypatch.setattr(asterisk_prompts.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(OSError, match=r"Unable to locate package.*apt-get update"):
        fetch("it", tmp_path)
