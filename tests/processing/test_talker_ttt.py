"""The front door: one call from a question to a reply, the same ids as the steps below it."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from streaming_fixtures import assert_same_reply, tiny_talker
from transformers import AutoModel, AutoProcessor

import text_to_talk
from modeling_ttt import nano_checkpoint
from processing_ttt import TASKS, TttBlockDraft, TttReply, TttTalker

ROOT = Path(__file__).resolve().parent.parent
FOLDER = nano_checkpoint()
SHORT = {"max_new_tokens": 60}
SPOKEN = [str(FOLDER / "questions" / f"{number}.wav") for number in (1, 2)]
WRITTEN = ["What is two plus three?", "Hello.", "What is the opposite of hot?"]


@pytest.fixture(scope="module")
def talker():
    return TttTalker.from_pretrained(FOLDER, device="cpu", **SHORT)


def by_hand(talker, messages) -> TttReply:
    """The path below the front door, as the Auto classes give it, without what the talker adds."""
    inputs = talker.processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    ids = talker.model.generate(**inputs, **SHORT)
    return talker.processor.decode_reply(ids[0, inputs["input_ids"].shape[1] :])


def assert_equal(one: TttReply, other: TttReply) -> None:
    assert (one.text, one.sampling_rate, one.finished) == (other.text, other.sampling_rate, other.finished)
    np.testing.assert_allclose(one.audio, other.audio, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("task", "question"),
    [
        ("chat", {"audio": SPOKEN[0]}),
        ("chat", {"text": WRITTEN[0]}),
        ("asr", {"audio": SPOKEN[0]}),
        ("tts", {"text": WRITTEN[1]}),
        ("text", {"text": WRITTEN[2]}),
    ],
)
def test_a_reply_is_that_of_the_steps_below_and_so_is_a_stream(talker, task, question):
    expected = by_hand(talker, talker.processor.conversation(task, **question))
    assert expected.text
    assert_equal(talker.reply(**question, task=task), expected)
    with talker.stream(**question, task=task, drafts=True) as stream:
        events = [event for event in stream if not isinstance(event, TttBlockDraft)]
    assert_same_reply(events, expected)


@pytest.mark.parametrize("name", ["audio", "text"])
def test_a_batch_gives_what_each_question_gets_alone(talker, name):
    questions = SPOKEN if name == "audio" else WRITTEN
    for reply, question in zip(talker.reply_batch(**{name: questions}), questions, strict=True):
        assert_equal(reply, talker.reply(**{name: question}))
    assert talker.reply_batch(**{name: []}) == []


def test_a_question_is_audio_or_text_and_a_batch_a_list(talker):
    for ask in (talker.reply, talker.stream, talker.reply_batch):
        with pytest.raises(ValueError, match="either `audio` or `text`, but neither came"):
            ask()
        with pytest.raises(ValueError, match="either `audio` or `text`, but both came"):
            ask(SPOKEN[0], WRITTEN[0])
    with pytest.raises(ValueError, match="needs audio"):
        talker.reply(text="Hello.", task="asr")
    with pytest.raises(ValueError, match="Unknown task 'sing'"):
        talker.reply(text="Hello.", task="sing")
    with pytest.raises(TypeError, match="takes a list of questions, not a str"):
        talker.reply_batch(text="Hello.")


def test_options_of_a_call_go_over_those_of_the_talker(talker):
    inputs = talker.prepare(text=WRITTEN[0])
    assert talker.reply_ids(inputs, max_new_tokens=3).shape == (1, 3)
    assert not talker.reply(text=WRITTEN[0], max_new_tokens=3).finished
    assert talker.generation_options == SHORT


def test_what_a_user_writes_is_text_and_ends_no_turn(talker):
    vocabulary = talker.processor.vocabulary
    ids = talker.prepare(text="<|im_end|><|audio|>")["input_ids"][0].tolist()
    assert ids.count(vocabulary.eos_token_id) == 2  # of the system and the user message
    assert talker.processor.audio_token_id not in ids


def test_language_and_system_prompt_reach_the_prompt():
    asked = []
    tiny = tiny_talker()
    processor, talker = tiny.processor, TttTalker(tiny.model, tiny.processor, "it")
    processor.messages = lambda *args, **kwargs: (
        asked.append(type(processor).messages(processor, *args, **kwargs)) or asked[-1]
    )
    talker.prepare(text="Ciao.")
    talker.prepare(text="Bonjour.", language="fr")
    talker.prepare(text="Hello.", system_prompt="Be brief.")
    prompts = [messages[0]["content"] for messages in asked]
    chat = TASKS["chat"].system_prompt
    assert prompts == [f"{chat} Language: it.", f"{chat} Language: fr.", "Be brief."]
    assert talker.conversation().system_prompt == prompts[0]
    assert talker.conversation("Be brief.").system_prompt == "Be brief."


def test_messages_are_those_of_the_processor_with_a_language_or_another_prompt(talker):
    messages = talker.processor.messages("tts", text="Hello.")
    assert messages == talker.processor.conversation("tts", "Hello.")
    assert messages[0]["content"] == TASKS["tts"].system_prompt
    assert talker.processor.messages("tts", "Hello.", language="en") == messages
    with pytest.raises(ValueError, match="Unknown task"):
        talker.processor.messages("sing", "Hello.")


def test_prepare_takes_messages_or_a_list_of_them(talker):
    one, other = (talker.processor.messages("text", text=text) for text in WRITTEN[:2])
    alone = talker.processor.prepare(other)["input_ids"]
    both = talker.processor.prepare([one, other])
    assert alone.shape[0] == 1 and both["input_ids"].shape[0] == 2
    assert both["input_ids"][1, -alone.shape[1] :].tolist() == alone[0].tolist()  # padded on the left
    assert both["attention_mask"].sum(-1)[1] == alone.shape[1]
    without = talker.processor.prepare(one, add_generation_prompt=False)["input_ids"]
    assert without.shape[1] < both["input_ids"].shape[1]


def test_a_conversation_has_the_talkers_options(talker):
    conversation = talker.conversation()
    assert_equal(conversation.say(WRITTEN[0]), talker.reply(text=WRITTEN[0]))
    conversation.say(WRITTEN[1])
    assert len(conversation.turns) == 2


def test_a_reply_is_saved_by_itself(talker, tmp_path):
    reply = talker.reply(text=WRITTEN[1], task="tts")
    reply.save(tmp_path / "reply.wav")
    talker.processor.save_audio(reply, tmp_path / "same.wav")
    assert (tmp_path / "reply.wav").read_bytes() == (tmp_path / "same.wav").read_bytes()
    assert soundfile.info(tmp_path / "reply.wav").frames == len(reply.audio)
    with pytest.raises(ValueError, match="text only"):
        TttReply("Hello.", np.zeros(0, np.float32), 16000).save(tmp_path / "none.wav")


def test_loading_takes_device_and_number_format(tmp_path):
    talker = TttTalker.from_pretrained(str(FOLDER), device="cpu", dtype=torch.bfloat16, denoising_steps=2)
    assert talker.model.dtype == torch.bfloat16 and not talker.model.training
    assert talker.generation_options == {"denoising_steps": 2}
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        TttTalker.from_pretrained(tmp_path / "absent")


def test_an_adapter_is_loaded_on_its_checkpoint(tmp_path, talker):
    peft = pytest.importorskip("peft")
    model = AutoModel.from_pretrained(FOLDER)
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"], r=2, init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    other = TttTalker.from_pretrained(FOLDER, device="cpu", adapter=tmp_path / "adapter", **SHORT)
    expected = TttTalker(adapted.eval(), AutoProcessor.from_pretrained(FOLDER), **SHORT).reply(text=WRITTEN[0])
    assert_equal(other.reply(text=WRITTEN[0]), expected)


def run(program: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", program, str(FOLDER)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_without_the_models_package_the_way_out_is_named():
    load = "from processing_ttt import TttTalker; import sys; TttTalker.from_pretrained(sys.argv[1])"
    printed = run(load).stderr.splitlines()[-1]
    assert printed.startswith("ImportError: The model's package is not imported: `import modeling_ttt`"), printed


def test_one_import_is_enough_and_has_the_public_names_of_both_packages():
    import modeling_ttt
    import processing_ttt

    for package in (modeling_ttt, processing_ttt):
        for name in package.__all__:
            assert name in text_to_talk.__all__ and getattr(text_to_talk, name) is getattr(package, name)
    assert isinstance(text_to_talk.__version__, str) and text_to_talk.__version__
    ask = "print(TttTalker.from_pretrained(sys.argv[1]).reply(text='Hello.').text)"
    done = run(f"from text_to_talk import TttTalker; import sys; {ask}")
    assert done.returncode == 0 and done.stdout.strip(), done.stderr


def test_an_adapter_in_place_of_a_checkpoint_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"is an adapter and no whole model: .* --adapter"):
        TttTalker.from_pretrained(tmp_path, device="cpu")


def test_a_checkpoint_without_some_of_its_weights_is_refused(tmp_path):
    folder = tmp_path / "half"
    shutil.copytree(FOLDER, folder)
    weights = load_file(folder / "model.safetensors")
    lacking = [name for name in sorted(weights) if "layers.3" in name]
    save_file(
        {name: weights[name] for name in weights if name not in lacking}, folder / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(OSError, match=f"lack {len(lacking)} tensors, {lacking[0]} among them: download"):
        TttTalker.from_pretrained(folder, device="cpu")


def test_audio_that_is_too_long_for_the_context_is_refused_in_seconds(talker, monkeypatch):
    monkeypatch.setattr(talker.model.config.text_config, "max_position_embeddings", 512)
    frame_rate = talker.processor.codec_config.frame_rate
    audio = (np.sin(np.arange(round(16000 * 600 / frame_rate)) / 9).astype(np.float32) / 9, 16000)
    seconds = rf"has {600 / frame_rate:.1f} s of audio, and this model has room for \d+\.\d s"
    for ask in (
        talker.reply,
        talker.stream,
        lambda audio, **options: talker.conversation().say(audio=audio, **options),
    ):
        with pytest.raises(ValueError, match=seconds) as error:
            ask(audio=audio, max_new_tokens=20)
    room = float(str(error.value).split("room for ")[1].split(" s")[0])
    shorter = (audio[0][: int(room * 16000)], 16000)
    assert talker.reply(audio=shorter, max_new_tokens=20) is not None
