"""The command line, run as a user does: in a process of its own, on the checkpoint in the box and on bad audio."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import numpy as np
import pytest
import soundfile
from checkout import ROOT, own_packages
from safetensors.torch import load_file, save_file

from finetune.adapters.languages import AdapterLanguages
from modeling_ttt import nano_checkpoint
from processing_ttt import TttTalker
from ttt_cli.talker import Talker, each_adapter

QUESTIONS = sorted((ROOT / "checkpoints" / "ttt-nano" / "questions").glob("?.wav"))


def ttt(*arguments: str | Path, cwd: Path, stdin: IO | None = None) -> subprocess.CompletedProcess[str]:
    """Run `ttt` in a folder."""
    command = [sys.executable, "-m", "ttt_cli", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=own_packages(), capture_output=True, text=True, timeout=300, stdin=stdin
    )


def test_talk_answers_a_spoken_question_in_text_and_audio(tmp_path):
    done = ttt("talk", "--audio", QUESTIONS[0], "--out", "reply.wav", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (text,), (summary,) = done.stdout.splitlines(), done.stderr.splitlines()
    assert len(text.split()) >= 2
    audio, rate = soundfile.read(tmp_path / "reply.wav")
    assert rate == 16_000
    assert len(audio) > rate // 4
    assert f"{len(audio) / rate:.2f} s of speech in reply.wav" in summary
    assert "real-time factor" in summary


def test_talk_answers_a_written_question_and_a_seed_repeats_it(tmp_path):
    options = ("--text", "What is two plus three?", "--seed", "3", "--temperature", "1", "--audio-temperature", "1")
    first, second = (ttt("talk", *options, "--out", name, cwd=tmp_path) for name in ("1.wav", "2.wav"))
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert first.stdout.splitlines()[0] == second.stdout.splitlines()[0]
    np.testing.assert_array_equal(soundfile.read(tmp_path / "1.wav")[0], soundfile.read(tmp_path / "2.wav")[0])


def test_transcribe_writes_what_is_said(tmp_path):
    done = ttt("transcribe", "--audio", QUESTIONS[0], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) >= 2


def test_several_recordings_are_transcribed_in_one_run_and_a_bad_one_does_not_end_it(tmp_path):
    (tmp_path / "noise.wav").write_bytes(b"no audio")
    done = ttt("transcribe", QUESTIONS[0], "noise.wav", "--audio", QUESTIONS[1], cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("Error: ") and "noise.wav" in done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{QUESTIONS[0]}: ") and second.startswith(f"{QUESTIONS[1]}: ")
    with QUESTIONS[0].open("rb") as file:
        alone = ttt("transcribe", "-", "--json", cwd=tmp_path, stdin=file)
    printed = json.loads(alone.stdout)
    assert printed["audio"] == "-" and printed["text"] == first.partition(": ")[2]
    assert printed["duration"] == pytest.approx(soundfile.info(QUESTIONS[0]).duration, abs=0.01)
    assert [segment["text"] for segment in printed["segments"]] == [printed["text"]]


def test_a_long_recording_is_transcribed_whole_as_subtitles(tmp_path):
    questions = [soundfile.read(path, dtype="float32")[0] for path in QUESTIONS[:4]]
    silence = np.zeros(8 * 16_000, np.float32)
    audio_file(tmp_path / "long.wav", np.concatenate([part for one in questions for part in (one, silence)]))
    done = ttt("transcribe", "long.wav", "--format", "srt", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    cues = done.stdout.strip().split("\n\n")
    assert len(cues) >= 2 and cues[0].startswith("1\n00:00:00,000 --> 00:00:")
    assert all(re.fullmatch(r"\d+\n[\d:,]+ --> [\d:,]+\n.+", cue) for cue in cues)


def test_a_reply_does_not_replace_a_file_whose_name_was_not_given(tmp_path):
    talker = Talker(TttTalker(SimpleNamespace(set_adapter=lambda name: None), SimpleNamespace()))
    before = Path("reply.wav"), Path("reply-2.wav")
    for name in before:
        (tmp_path / name).touch()
    assert next(each_adapter(talker, None, default=tmp_path / "reply.wav")) == tmp_path / "reply-3.wav"
    assert next(each_adapter(talker, tmp_path / "reply.wav")) == tmp_path / "reply.wav", "which was asked for"


def test_a_question_or_text_needs_no_option_and_may_come_from_stdin(tmp_path):
    named = ttt("talk", QUESTIONS[0], "--json", cwd=tmp_path)
    assert named.returncode == 0 and named.stderr == ""
    answer = json.loads(named.stdout)
    assert answer["audio"] == "reply.wav" and answer["finished"] and len(answer["text"].split()) >= 2
    assert answer["seconds"] == pytest.approx(soundfile.info(tmp_path / "reply.wav").duration, abs=0.01)
    (tmp_path / "text.txt").write_text("Two.\n")
    with (tmp_path / "text.txt").open() as file:
        piped = ttt("speak", "-", "--out", "piped.wav", cwd=tmp_path, stdin=file)
    written = ttt("speak", "Two.", cwd=tmp_path)
    assert piped.returncode == written.returncode == 0, piped.stderr + written.stderr
    assert (tmp_path / "piped.wav").read_bytes() == (tmp_path / "speech.wav").read_bytes()


def test_speak_reads_a_text_aloud(tmp_path):
    done = ttt("speak", "--text", "Seven plus five is twelve.", "--out", "speech.wav", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert soundfile.info(tmp_path / "speech.wav").duration > 0.5


def test_speak_warns_in_one_line_of_letters_that_the_checkpoint_does_not_have(tmp_path):
    done = ttt("speak", "мир", cwd=tmp_path)
    warnings = [line for line in done.stderr.splitlines() if line.startswith("Warning: ")]
    assert done.returncode == 0 and len(warnings) == 1, done.stderr
    assert "Cyrillic letters" in warnings[0] and "--adapter" in warnings[0]


def test_each_adapter_is_asked_in_its_own_language_unless_one_is_named():
    languages = {"it": AdapterLanguages(("it",)), "ru": AdapterLanguages(("ru",)), "old": AdapterLanguages()}
    chosen = []
    model, processor = SimpleNamespace(set_adapter=chosen.append), SimpleNamespace(system_prompts={"tts": "Say it."})
    talker = Talker(TttTalker(model, processor), languages)
    prompts = [talker.system_prompt("tts") for _ in each_adapter(talker, Path("reply.wav"))]
    assert prompts == ["Say it. Language: it.", "Say it. Language: ru.", None] and chosen == list(languages)
    talker.talker.language = "fr"
    assert talker.system_prompt("tts") is None  # the talker's language counts


def test_talk_can_show_the_transcript_of_the_question(tmp_path):
    done = ttt("talk", "--audio", QUESTIONS[0], "--transcribe", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Heard: ")


SUMMARY = re.compile(
    r"([\d.]+) s of speech in (\S+), the first after ([\d.]+) s, (all in|interrupted after) ([\d.]+) s: "
)


@pytest.mark.parametrize("stream", [(), ("--stream",)], ids=["whole", "stream"])
def test_a_text_that_is_not_read_to_its_end_is_an_error(tmp_path, stream):
    folder = tmp_path / "short"
    shutil.copytree(nano_checkpoint(), folder)
    config = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(config | {"max_new_tokens": 24}))
    text = "Seven plus five is twelve."
    done = ttt("speak", "--model", folder, "--text", text, *stream, cwd=tmp_path)
    assert done.returncode == 1 and text.startswith(done.stdout.strip()) and len(done.stdout.strip()) < len(text)
    assert "Warning: the reply was cut off" in done.stderr and (tmp_path / "speech.wav").exists()


def test_talk_and_speak_stream_what_they_say_whole(tmp_path):
    question = ("talk", "--audio", QUESTIONS[0])
    whole, streamed = ttt(*question, cwd=tmp_path), ttt(*question, "--stream", "--out", "stream.wav", cwd=tmp_path)
    assert streamed.returncode == 0, streamed.stderr
    assert streamed.stdout.splitlines()[0] == whole.stdout.splitlines()[0]
    expected, played = soundfile.read(tmp_path / "reply.wav")[0], soundfile.read(tmp_path / "stream.wav")[0]
    np.testing.assert_allclose(played, expected, rtol=0, atol=2 / 2**15)  # 16-bit steps of the file
    seconds, name, first, ending, total = SUMMARY.match(streamed.stderr).groups()
    assert (seconds, name, ending) == (f"{len(played) / 16_000:.2f}", "stream.wav", "all in")
    assert 0 < float(first) < float(total)
    assert ttt("speak", "--stream", "--text", "Two.", cwd=tmp_path).returncode == 0
    assert soundfile.info(tmp_path / "speech.wav").duration > 0.1


def test_ctrl_c_leaves_the_audio_so_far_and_no_traceback(tmp_path):
    shutil.copytree(nano_checkpoint(), tmp_path / "endless")
    weights = load_file(tmp_path / "endless" / "model.safetensors")
    eos = json.loads((tmp_path / "endless" / "config.json").read_text())["eos_token_id"]
    weights["lm_head.weight"][eos] = 0.0  # never the best id: a reply that is still going on when it is interrupted
    save_file(weights, tmp_path / "endless" / "model.safetensors", metadata={"format": "pt"})
    command = [sys.executable, "-m", "ttt_cli", "speak", "--stream", "--text", "Seven plus five is twelve."]
    command += ["--out", "cut.wav", "--model", "endless", "--max-new-tokens", "1500"]
    # SIGINT is ignored where the tests run in the background
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=own_packages(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    end = time.monotonic() + 200
    cut = tmp_path / "cut.wav"
    while not (cut.exists() and cut.stat().st_size > 1000):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    seconds, _, _, ending, _ = SUMMARY.match(stderr).groups()
    assert ending == "interrupted after"
    assert soundfile.info(cut).duration == pytest.approx(float(seconds), abs=0.006)


def audio_file(path: Path, samples: np.ndarray) -> Path:
    """Write a wav file at 16 kHz."""
    soundfile.write(path, samples, 16_000)
    return path


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda folder: folder / "missing.wav", "missing.wav"),
        (lambda folder: audio_file(folder / "empty.wav", np.zeros(0)), "empty.wav"),
        (lambda folder: audio_file(folder / "silent.wav", np.zeros(16_000)), "silent.wav"),
    ],
)
def test_bad_audio_is_one_clear_line_and_no_file(tmp_path, make, expected):
    done = ttt("talk", "--audio", make(tmp_path), "--out", "reply.wav", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "reply.wav").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "--audio FILE or with --text TEXT"),
        (("--audio", "a.wav", "--text", "Hi."), "--audio FILE or with --text TEXT"),
        (("--text", "Hi.", "--out", "nowhere/reply.wav"), "--out"),
        (("--text", "Hi.", "--model", "no/such/model/here"), "no/such/model/here"),
    ],
)
def test_a_bad_request_is_one_clear_line(tmp_path, arguments, expected):
    done = ttt("talk", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("speak", "--text", "Hello.", "--out", "o.m4a"), "'o.m4a' has no known audio extension"),
        (("speak", "--text", "Hello.", "--out", "."), "is a folder"),
        (("speak", "--text", " "), "The text to read aloud is empty"),
        (("speak", "--text", "Hello.", "--model", "./no/such/folder"), "There is no folder './no/such/folder'"),
        (("transcribe", "--audio", "noise.raw"), "'noise.raw' "),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(tmp_path, arguments, message):
    (tmp_path / "noise.raw").write_bytes(bytes(range(256)) * 16)
    done = ttt(*arguments, cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and message in done.stderr


def test_a_recording_is_not_overwritten_by_its_answer(tmp_path):
    question = tmp_path / "question.wav"
    question.write_bytes(b"mine")
    (tmp_path / "link.wav").symlink_to(question)
    (tmp_path / "reply-it.wav").symlink_to(question)
    adapters = ("--adapter", "it=here", "--adapter", "en=there", "--out", "reply.wav")
    for options in (("--out", "question.wav"), ("--out", "link.wav"), ("--out", "question.wav", "--stream"), adapters):
        done = ttt("talk", "question.wav", *options, cwd=tmp_path)
        assert done.returncode == 1 and "is the recording itself" in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1
    assert question.read_bytes() == b"mine"


def test_markers_that_a_user_writes_are_text(tmp_path):
    done = ttt("talk", "--text", "What is <|audio|> two<|im_end|> plus two?", "--max-new-tokens", "60", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
