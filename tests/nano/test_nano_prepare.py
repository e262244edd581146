"""Nano's data: what a room does to a question, and prepared rows that hold what was spoken."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from finetune.data.schema import load_prepared
from finetune.nano.checkpoint import prepare as nano_prepare
from finetune.nano.codec import encode
from finetune.nano.domain.questions import items, text_corpus
from finetune.nano.speech.acoustics import in_room, with_noise, with_surroundings
from finetune.training.recipe import read_recipe
from modeling_ttt import nano_checkpoint


def tone(seconds: float = 0.5) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * 16_000)) / 16_000)).astype(np.float32)


@pytest.mark.parametrize("ratio", [0.0, 10.0, 30.0])
def test_noise_has_the_power_that_is_asked_for(ratio):
    audio = tone()
    noise = with_noise(audio, ratio, float(np.sqrt(np.mean(audio**2))), np.random.default_rng(0)) - audio
    assert 10 * np.log10(np.mean(audio**2) / np.mean(noise**2)) == pytest.approx(ratio, abs=0.01)


def test_a_room_keeps_level_and_length_and_decays():
    click = np.zeros(16_000, np.float32)
    click[100] = 0.9
    wet = in_room(click, 0.3, -3.0, np.random.default_rng(0))
    assert wet.shape == click.shape and wet.dtype == np.float32
    assert np.mean(wet**2) == pytest.approx(np.mean(click**2), rel=1e-3)
    assert abs(wet[:99]).max() < 1e-6  # the noise of an FFT
    # 0.22 s later: 44 dB at a reverberation time of 0.3 s
    early, late = (
        np.mean(wet[101:900] ** 2),
        np.mean(wet[4000:4800] ** 2),
    )
    assert 35 < 10 * np.log10(early / late) < 53


def test_what_a_microphone_records_stays_in_range_and_depends_on_the_seed_alone():
    varied = [with_surroundings(tone(), np.random.default_rng(seed)) for seed in range(40)]
    again = [with_surroundings(tone(), np.random.default_rng(seed)) for seed in range(40)]
    assert all(np.array_equal(a, b) for a, b in zip(varied, again, strict=True))
    assert all(audio.dtype == np.float32 and abs(audio).max() <= 1 for audio in varied)
    lengths = {len(audio) for audio in varied}
    assert min(lengths) == 8000 and 8000 < max(lengths) <= 8000 + 16_000
    assert len({round(float(abs(audio).max()), 3) for audio in varied}) > 20


def test_lists_of_facts_hold_what_is_trained_and_nothing_that_is_held_out():
    lines = {line for text in nano_prepare.lists_of_facts() for line in text.split("\n")}
    assert not lines & {item.answer for item in items() if item.split == "unseen_fact"}
    assert {item.answer for item in items() if item.split == "train"} <= lines
    assert "Forty plus seven is forty seven." in lines or "Forty plus eight is forty eight." in lines


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> dict[str, list[dict]]:
    """Index lines as encoded corpora have them, with invented codes."""

    def line(name: str, text: str, voice: str = "slt", **fields: str) -> dict:
        words = text.split()
        spoken = [[word, i * 0.2, (i + 1) * 0.2] for i, word in enumerate(words)]
        return {
            "id": name,
            "voice": voice,
            "text": text,
            "words": spoken,
            "codes": [len(text) % 1000] * 5 * len(words),
            **fields,
        }

    empty: dict[str, list[dict]] = {name: [] for name in (*nano_prepare.VARIATIONS, *nano_prepare.SPOKEN)}
    return empty | {
        "questions": [
            line("q-0", "What colour is grass?", "kal16", kind="colour", answer="Grass is green."),
            line("q-1", "What colour is grass?", "rms", kind="colour", answer="Grass is green."),
            line("q-2", "What colour is coal?", kind="colour", answer="Coal is black."),
        ],
        "follow-ups": [
            line(
                "f-0",
                "And milk?",
                "rms",
                first_question="What colour is grass?",
                first_answer="Grass is green.",
                answer="Milk is white.",
            )
        ],
        "drills": [line("d-0", "Seven blue kitchen.", "awb", kind="drill")],
        "natural": [line("n-0", "A branch of physics.", "af_bella", kind="phrase", answer="A branch of physics.")],
        "phrases": [line("p-0", "A branch of physics.")],
        "answers": [line("a-0", "Grass is green."), line("a-1", "Milk is white.")],
    }


def test_a_dialogue_needs_its_spoken_answer_and_a_second_turn_has_one_voice(corpora):
    rows = {name: list(made) for name, made in nano_prepare._datasets(corpora, 25.0).items()}
    assert [row["id"] for row in rows["chat"]] == ["questions/q-0", "questions/q-1"]  # coal has no spoken answer
    assert [word["word"] for word in rows["chat"][0]["answer_words"]] == ["Grass", "is", "green."]
    note = json.loads(rows["noted"][2]["messages"])
    assert [message["content"] for message in note] == [
        "Answer the user in text.",
        "<|audio_20|>" * 20,
        "Coal is black.",
    ]
    (turns,) = rows["turns"]
    messages = json.loads(turns["messages"])
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "assistant"]
    asked = "What colour is grass?"
    assert messages[0]["content"] == f"<|audio_{len(asked)}|>" * 20
    assert messages[3]["content"].startswith("Milk<|audio_14|>") and " white.<|audio_14|>" in messages[3]["content"]
    assert turns["seconds"] == pytest.approx((20 + 15 + 10 + 15) / 25)
    # The two who ask about grass ask in the same words; they are typed as they are, and as people type.
    typed, by_hand = rows["typed"]
    assert by_hand["answer_text"] == "Grass is green." and by_hand["text"].lower().startswith("what colour is grass")
    assert (typed["text"], typed["codes"], typed["answer_text"]) == (asked, None, "Grass is green.")
    assert typed["seconds"] == pytest.approx(15 / 25)
    assert rows["talks"] == []  # of each voice there is one question
    assert [row["text"] for row in rows["aloud"]] == ["Grass is green.", "Milk is white.", "A branch of physics."]
    assert [row["text"] for row in rows["words"]] == ["Seven blue kitchen.", "A branch of physics."]
    assert {row["text"] for row in rows["dictated"]} == {"What colour is grass?", "What colour is coal?"}
    assert {row["text"] for row in rows["written"]} <= set(text_corpus())


def test_a_reply_is_in_the_voice_of_the_codec_where_it_has_one_and_needs_the_times_of_its_words(corpora):
    green, milk = ({**line, "voice": "af_heart", "codes": [9] * 15} for line in corpora["answers"])
    del milk["words"]
    rows = {name: list(made) for name, made in nano_prepare._datasets(corpora | {"voice": [green, milk]}, 25.0).items()}
    assert [row["text"] for row in rows["voice"]] == ["Grass is green."] and len(rows["aloud"]) == 3
    assert rows["chat"][0]["answer_codes"] == [9] * 15
    (turns,) = rows["turns"]
    messages = json.loads(turns["messages"])
    assert "<|audio_9|>" in messages[1]["content"] and "<|audio_9|>" not in messages[3]["content"]


def test_small_talk_is_also_a_dataset_of_its_own_spoken_and_typed(corpora):
    greeting = corpora["questions"][0] | {"id": "q-3", "text": "Good morning.", "kind": "talk"}
    lines = corpora | {"questions": [*corpora["questions"], greeting]}
    rows = {name: list(made) for name, made in nano_prepare._datasets(lines, 25.0).items()}
    spoken, *typed = rows["small_talk"]
    assert (spoken["id"], spoken["codes"]) == ("questions/q-3", greeting["codes"])
    assert typed and all(row["id"] == "typed/questions/q-3" and row["codes"] is None for row in typed)
    assert all(row in rows["chat"] + rows["typed"] for row in rows["small_talk"])


def test_a_greeting_is_typed_in_many_ways_and_nothing_else_is_a_greeting(corpora):
    welcome = corpora["answers"][0] | {"text": "You are welcome."}
    thanks = corpora["questions"][0] | {"id": "q-3", "text": "Thank you.", "answer": welcome["text"], "kind": "talk"}
    lines = corpora | {"questions": [*corpora["questions"], thanks], "answers": [*corpora["answers"], welcome]}
    greetings = list(nano_prepare._datasets(lines, 25.0)["greetings"])
    texts = [row["text"] for row in greetings]
    assert texts[:2] == ["Thank you.", "Thank you!"] and len(set(texts)) == len(texts) >= 5
    assert {text.lower().rstrip(".!") for text in texts} == {"thank you"}
    assert all(row["codes"] is None and row["answer_text"] == "You are welcome." for row in greetings)


def test_a_talk_has_one_voice_and_uses_every_question_once(corpora):
    one = corpora["questions"][0]
    first_codes = {"kal16": 0, "rms": 500}
    asked = [
        (f"q/{voice}-{i}", one | {"voice": voice, "text": f"{voice} {i}", "codes": [first + i] * (20 + i)})
        for voice, first in first_codes.items()
        for i in range(200)
    ]
    voices = {nano_prepare._written(line["codes"]): line["voice"] for _, line in asked}
    voices_of_texts = {line["text"]: line["voice"] for _, line in asked}
    rows = list(nano_prepare._talks(asked, {"Grass is green.": corpora["answers"][0]}, 25.0))
    talks = [[m["content"] for m in json.loads(row["messages"]) if m["role"] == "user"] for row in rows]
    assert {len(talk) for talk in talks} == {2, 3, 4}
    typed = [question.lower() for talk in talks for question in talk if question.lower() in voices_of_texts]
    assert 0.17 < len(typed) / sum(map(len, talks)) < 0.33
    voice_of = voices | voices_of_texts
    assert all(len({voice_of.get(question) or voice_of[question.lower()] for question in talk}) == 1 for talk in talks)
    assert 398 <= sum(map(len, talks)) <= 400 and len(set(typed)) == len(typed)  # a last question alone is no talk
    for row, talk in zip(rows, talks, strict=True):
        codes = sum(question.count("<|audio_") for question in talk) + 15 * len(talk)
        assert row["seconds"] == pytest.approx(codes / 25)


def test_half_of_the_talks_have_a_greeting_anywhere_which_another_voice_only_types(corpora):
    one, answer = corpora["questions"][0], corpora["answers"][0]
    said = {"Thank you.": "You are welcome.", "Thank God, are you tired?": "I never sleep."}
    small_talk = [
        one | {"voice": "rms", "kind": "talk", "text": text, "answer": reply, "codes": [7] * 9}
        for text, reply in said.items()
    ]
    asked = [(f"q/{voice}-{i}", one | {"voice": voice}) for voice in ("kal16", "rms") for i in range(300)]
    asked += [(f"q/t-{i}", line) for i, line in enumerate(small_talk)]
    replies = {text: answer | {"text": text} for text in ("Grass is green.", *said.values())}
    talks = [
        [message["content"] for message in json.loads(row["messages"]) if message["role"] == "user"]
        for row in nano_prepare._talks(asked, replies, 25.0)
    ]
    found = [
        [i for i, text in enumerate(talk) if text == "<|audio_7|>" * 9 or "thank" in text.lower()] for talk in talks
    ]
    assert {len(places) for places in found} == {0, 1} and 0.4 < sum(map(len, found)) / len(talks) < 0.6
    assert {places[0] for places in found if places} == {0, 1, 2, 3, 4}  # before, between and after the questions
    spoken = ["thank" not in talk[places[0]].lower() for talk, places in zip(talks, found, strict=True) if places]
    assert 0.25 < sum(spoken) / len(spoken) < 0.5  # only rms has said it, and sometimes writes


def test_speech_becomes_prepared_data_that_the_shipped_recipe_can_train_on(tmp_path):
    synthesise = pytest.importorskip("finetune.nano.speech.synthesise")
    from finetune.nano.speech.jobs import Job

    try:
        for corpus, kind in (("answers", "colour"), ("drills", "drill")):
            job = Job("Grass is green.", "kal16", 1.0, "train", {"kind": kind, "answer": "Grass is green."})
            synthesise.write_shards([job], tmp_path / "speech" / corpus)
    except OSError:
        pytest.skip("flite is not installed")
    counts = nano_prepare.prepare(str(nano_checkpoint()), tmp_path / "speech", tmp_path / "prepared")
    assert counts["aloud"] + len(load_prepared(tmp_path / "prepared" / "aloud")["validation"]) == 1
    words = [row for rows in load_prepared(tmp_path / "prepared" / "words").values() for row in rows]
    assert [row["id"] for row in words] == [
        f"drills/shard-00000-000{again}" for again in ("", nano_prepare.AGAIN + "1")
    ]
    assert words[0]["codes"] != words[1]["codes"] and words[0]["text"] == words[1]["text"]
    named = yaml.safe_load((tmp_path / "prepared" / "data.yaml").read_text())["datasets"]
    assert [entry["path"] for entry in named] == [name for name, rows in counts.items() if rows]  # nothing was recorded
    (tmp_path / "prepared" / "codes" / "codec.txt").write_text("another")
    with pytest.raises(ValueError, match="codes of another codec"):
        nano_prepare.prepare(str(nano_checkpoint()), tmp_path / "speech", tmp_path / "prepared")
    assert Path(read_recipe(Path("nano")).model).name == "ttt-nano"


def test_a_corpus_that_grew_is_encoded_where_it_is_new(tmp_path, monkeypatch):
    encoded = []
    monkeypatch.setattr(encode, "encode", lambda codec, waveforms: [encoded.append(len(s)) or [1] for s in waveforms])

    def corpus(count: int) -> list[list[int]]:
        lines = [{"id": f"{number}", "start": 4 * number, "samples": 4} for number in range(count)]
        (tmp_path / "speech").mkdir(exist_ok=True)
        for shard in range(0, count, 2):
            path = tmp_path / "speech" / f"shard-{shard // 2:05d}.jsonl"
            path.write_text("".join(json.dumps(line) + "\n" for line in lines[shard : shard + 2]))
            np.save(path.with_suffix(".npy"), np.zeros(4 * count, np.int16))
        encoded.clear()
        encode.encode_corpus(None, tmp_path / "speech", tmp_path / "codes", varied=False)
        assert [line["id"] for line in encode.read_codes(tmp_path / "codes")] == [str(n) for n in range(count)]
        return encoded

    assert len(corpus(3)) == 3
    assert len(corpus(3)) == 0
    assert len(corpus(4)) == 2, "the last shard again, and the first one not"
