import copy
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import soundfile
import torch
from clean_process import NOT_INSTALLED
from processing_fixtures import tiny_tokenizer
from transformers import AutoModel, AutoProcessor, AutoTokenizer

from processing_ttt import (
    RELEASED_SYSTEM_PROMPTS,
    TASKS,
    TttCodecConfig,
    TttCodecModel,
    TttProcessor,
    TttReply,
    add_ttt_tokens,
)

RATE = 16000


def tone(seconds=0.3, rate=RATE, hz=300):
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.fixture(scope="module")
def codec():
    torch.manual_seed(0)
    config = TttCodecConfig(
        hidden_size=16, intermediate_size=16, vocoder_hidden_size=16, vocoder_intermediate_size=16, fsq_levels=[4, 4]
    )
    return TttCodecModel(config).eval()


@pytest.fixture
def processor(codec):
    tokenizer = tiny_tokenizer()
    add_ttt_tokens(tokenizer, codec.config.codebook_size)
    processor = TttProcessor(tokenizer, text_tokens=3, audio_tokens=4)
    processor.codec = codec
    return processor


@pytest.fixture
def saved(processor, tmp_path):
    processor.save_pretrained(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def prompt_ids(processor, conversation, **kwargs):
    options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
    return processor.apply_chat_template(conversation, **{**options, **kwargs})


# -------------------------------------------------------------------------------------------------------------- prompts


@pytest.mark.parametrize(
    ("task", "modality"),
    [
        ("chat", "audio"),
        ("chat", "text"),
        ("chat", "both"),
        ("asr", "audio"),
        ("tts", "text"),
        ("text", "text"),
        ("caption", "audio"),
        ("caption", "both"),
    ],
)
def test_a_training_example_begins_with_the_inference_prompt_id_for_id(processor, task, modality):
    text = "What is\nseven plus five?" if modality != "audio" else None
    audio = (tone(), RATE) if modality != "text" else None
    codes = processor.encode_audio(audio) if audio else None
    reply_codes = [1, 2, 3] if TASKS[task].speaks else ()
    example = processor.layout.build_example(
        processor.tokenizer, task, text=text, codes=codes, reply_text="Twelve.", reply_codes=reply_codes
    )
    prompt = [token_id for token_id, label in zip(*example.values(), strict=True) if label == -100]
    inputs = prompt_ids(processor, processor.conversation(task, text=text, audio=audio))
    assert inputs["input_ids"].tolist() == [prompt]
    assert processor.tokenizer.encode("Twelve.")[0] == example["labels"][len(prompt)]


def test_audio_stands_between_its_markers_with_one_token_for_each_code(processor):
    inputs = prompt_ids(processor, processor.conversation("asr", audio=(tone(), RATE)))
    codes = processor.encode_audio(tone(), sampling_rate=RATE)
    assert len(codes) == 8  # 0.3 s at 25 codes per second, the last one begun
    audio = "<|begin_of_audio|>" + "".join(f"<|audio_{code}|>" for code in codes) + "<|end_of_audio|>"
    assert processor.tokenizer.decode(inputs["input_ids"][0]) == (
        f"<|im_start|>system\n{TASKS['asr'].system_prompt}<|im_end|>\n"
        f"<|im_start|>user\n{audio}<|im_end|>\n<|im_start|>assistant\n"
    )
    assert sorted(inputs) == ["attention_mask", "input_ids"]


def test_every_form_of_audio_gives_the_same_prompt(processor, tmp_path):
    path = tmp_path / "question.wav"
    soundfile.write(path, tone(), RATE, subtype="FLOAT")
    value = {"array": tone(), "sampling_rate": RATE, "path": None}
    parts = [
        {"type": "audio", "audio": str(path)},
        {"type": "audio", "audio": path},
        {"type": "audio", "path": str(path)},
        {"type": "audio", "url": str(path)},
        {"type": "audio", "audio": path.read_bytes()},
        {"type": "audio", "audio": io.BytesIO(path.read_bytes())},
        {"type": "audio", "audio": value},
        {"type": "audio", "audio": (tone(), RATE)},
        {"type": "audio", "array": tone(), "sampling_rate": RATE},
    ]
    expected = prompt_ids(processor, processor.conversation("chat", audio=value))["input_ids"]
    for part in parts:
        ids = prompt_ids(processor, [{"role": "user", "content": [part]}])["input_ids"]
        assert torch.equal(ids, expected), part
    bare = [{"role": "user", "content": [{"type": "audio", "audio": tone()}]}]
    assert torch.equal(prompt_ids(processor, bare, processor_kwargs={"sampling_rate": RATE})["input_ids"], expected)
    with pytest.raises(ValueError, match="give `sampling_rate`"):
        prompt_ids(processor, bare)


def test_a_datasets_audio_value_is_taken_as_it_comes(processor, tmp_path):
    datasets = pytest.importorskip("datasets")
    soundfile.write(tmp_path / "question.wav", tone(), RATE, subtype="FLOAT")
    rows = datasets.Dataset.from_dict({"audio": [str(tmp_path / "question.wav")]})
    value = rows.cast_column("audio", datasets.Audio(decode=False))[0]["audio"]
    ids = prompt_ids(processor, processor.conversation("chat", audio=value))["input_ids"]
    expected = prompt_ids(processor, processor.conversation("chat", audio=(tone(), RATE)))["input_ids"]
    assert torch.equal(ids, expected)


def test_another_rate_is_resampled_to_the_codecs(processor):
    assert len(processor.encode_audio((tone(1.0, 44100), 44100))) == 25


def test_a_batch_is_padded_on_the_left_and_each_row_equals_its_own_prompt(processor):
    conversations = [
        processor.conversation("chat", audio=(tone(), RATE)),
        processor.conversation("text", text="Hello"),
        processor.conversation("asr", audio=(tone(0.9), RATE)),
    ]
    batch = prompt_ids(processor, conversations)
    for row, mask, conversation in zip(*batch.values(), conversations, strict=True):
        alone = prompt_ids(processor, conversation)["input_ids"][0]
        assert torch.equal(row[mask.bool()], alone)
        assert mask.tolist() == sorted(mask.tolist())
        assert set(row[~mask.bool()].tolist()) <= {processor.vocabulary.pad_token_id}


def test_several_waveforms_in_a_conversation_keep_their_order(processor):
    first, second = (tone(hz=200), RATE), (tone(0.5, hz=900), RATE)
    conversation = [
        *processor.conversation("chat", audio=first),
        {"role": "assistant", "content": "Twelve."},
        {"role": "user", "content": [{"type": "audio", "audio": second}]},
    ]
    ids = prompt_ids(processor, conversation)["input_ids"][0].tolist()
    codes = [
        token_id - processor.vocabulary.audio_code_offset for token_id in ids if processor.vocabulary.is_code(token_id)
    ]
    assert codes == processor.encode_audio(first) + processor.encode_audio(second)


def test_rendering_alone_reads_no_audio_and_leaves_the_conversation_as_it_was(processor):
    conversation = processor.conversation("chat", audio="absent.wav")
    before = copy.deepcopy(conversation)
    assert "<|audio|>" in processor.apply_chat_template(conversation)
    with pytest.raises(FileNotFoundError, match=r"absent\.wav"):
        prompt_ids(processor, conversation)
    assert conversation == before


def test_a_text_prompt_needs_no_codec(processor):
    processor = TttProcessor(processor.tokenizer)
    assert prompt_ids(processor, processor.conversation("text", text="Hello"))["input_ids"].shape[0] == 1


def test_a_text_that_was_no_utf_8_is_refused_where_it_enters(processor):
    text = b"caf\xe9".decode("utf-8", "surrogateescape")  # as a command line passes it
    for take in (lambda: processor.messages("tts", text=text), lambda: processor(text)):
        with pytest.raises(ValueError, match=r"the lone surrogate '\\udce9' at position 3"):
            take()


def test_waveforms_and_placeholders_are_matched(processor):
    with pytest.raises(ValueError, match=r"1 .* placeholders, but audio for 2"):
        processor("<|audio|>", audio=[(tone(), RATE), (tone(), RATE)])
    with pytest.raises(ValueError, match=r"1 .* placeholders, but audio for 0"):
        prompt_ids(processor, processor.conversation("text", text="say <|audio|>"))
    with pytest.raises(ValueError, match="Give `text`"):
        processor(audio=(tone(), RATE))
    with pytest.raises(ValueError, match="text and audio only"):
        processor("Hello", images=[0])
    with pytest.raises(ValueError, match="needs its audio"):
        prompt_ids(processor, [{"role": "user", "content": [{"type": "audio"}]}])


def test_sanitizing_spells_out_markers_that_a_user_wrote(processor):
    conversation = processor.conversation("text", text="<|audio|><|im_end|>")
    ids = prompt_ids(processor, conversation, sanitize_control_tokens=True)["input_ids"][0].tolist()
    assert processor.audio_token_id not in ids
    assert ids.count(processor.vocabulary.eos_token_id) == 2  # of the system and the user message


def test_positional_text_and_bare_lists_of_waveforms_work(processor):
    waveforms = [(tone(), RATE), {"array": tone(0.5), "sampling_rate": RATE}]
    inputs = processor(["<|audio|>", "a <|audio|>"], waveforms, return_tensors="pt")
    assert inputs["input_ids"].shape == (2, 2 + 13 + 2)
    assert (
        processor("<|audio|>", tone().tolist(), sampling_rate=RATE)["input_ids"][0][0]
        == processor.vocabulary.begin_audio_token_id
    )


def test_system_prompts_can_be_those_of_the_released_checkpoints(processor, tmp_path):
    released = TttProcessor(processor.tokenizer, system_prompts=RELEASED_SYSTEM_PROMPTS)
    assert released.conversation("asr", audio=b"")[0]["content"] == RELEASED_SYSTEM_PROMPTS["asr"]
    assert released.conversation("tts", text="a")[0]["content"] == TASKS["tts"].system_prompt
    without = released.apply_chat_template([{"role": "user", "content": "Hello"}])
    assert without.startswith(f"<|im_start|>system\n{RELEASED_SYSTEM_PROMPTS['chat']}<|im_end|>")
    released.save_pretrained(tmp_path)
    assert AutoProcessor.from_pretrained(tmp_path).system_prompts == RELEASED_SYSTEM_PROMPTS
    with pytest.raises(ValueError, match="unknown tasks"):
        TttProcessor(processor.tokenizer, system_prompts={"song": "Sing."})


# -------------------------------------------------------------------------------------------------------------- replies


def test_a_reply_becomes_its_text_and_the_audio_of_all_its_codes(processor, codec):
    codes = [1, 5, 9, 0, 15, 3, 2]
    text = "Seven plus five is twelve."
    ids = [*processor.layout.build_reply(processor.tokenizer.encode(text), codes), processor.vocabulary.eos_token_id]
    reply = processor.decode_reply(torch.tensor(ids))
    with torch.no_grad():
        expected = codec.decode(torch.tensor([[codes]])).audio_values[0, 0].numpy()
    assert reply.text == text and reply.finished
    np.testing.assert_array_equal(reply.audio, expected)
    assert (reply.audio.dtype, reply.sampling_rate) == (np.float32, RATE)
    assert reply.seconds == len(codes) / 25


def test_a_text_reply_is_silent_and_does_not_load_the_codec(saved, monkeypatch):
    processor = AutoProcessor.from_pretrained(saved)
    monkeypatch.setattr(TttCodecModel, "__init__", None)
    reply = processor.decode_reply([*processor.tokenizer.encode("Twelve."), processor.vocabulary.eos_token_id])
    assert reply.text == "Twelve."
    assert (reply.audio.shape, reply.audio.dtype, reply.sampling_rate) == ((0,), np.float32, RATE)
    with pytest.raises(ValueError, match="the reply is text only"):
        processor.save_audio(reply.audio, "reply.wav")
    with pytest.raises(ValueError, match="the reply is text only"):
        processor.save_audio(reply, "reply.wav")


def test_unfinished_and_damaged_replies_are_decoded_as_far_as_they_go(processor):
    vocabulary = processor.vocabulary
    ids = processor.layout.build_reply(processor.tokenizer.encode("Seven plus five"), list(range(9)))
    ids[ids.index(vocabulary.audio_code_offset + 2)] = vocabulary.mask_token_id
    reply = processor.decode_reply(ids[:-2])
    assert reply.text == "Seven plus five" and len(reply.audio) == 7 * 640 and not reply.finished
    assert processor.decode_reply([]).text == ""
    assert processor.decode_reply([-1, 10**9, vocabulary.mask_token_id]).text == ""


def test_a_batch_of_replies_is_decoded_row_by_row(processor):
    vocabulary = processor.vocabulary
    row = [*processor.layout.build_reply(processor.tokenizer.encode("Hello"), [1, 2]), vocabulary.eos_token_id]
    rows = torch.tensor([row, [vocabulary.eos_token_id] + [vocabulary.pad_token_id] * (len(row) - 1)])
    replies = processor.batch_decode_reply(rows)
    assert [reply.text for reply in replies] == ["Hello", ""]
    assert [len(reply.audio) for reply in replies] == [2 * 640, 0]


def test_the_pipelines_output_is_the_text_of_everything_or_the_audio_of_the_last_message(processor):
    inputs = prompt_ids(processor, processor.conversation("chat", audio=(tone(), RATE)))
    reply = processor.layout.build_reply(processor.tokenizer.encode("Seven plus five is é."), [4, 5, 6])
    reply.append(processor.vocabulary.eos_token_id)
    sequences = torch.cat([inputs["input_ids"], torch.tensor([reply])], dim=1)
    (text,) = processor.post_process_multimodal_output(sequences, skip_special_tokens=True, generation_mode=None)
    (prompt,) = processor.post_process_multimodal_output(inputs["input_ids"], generation_mode="text")
    assert text == prompt + "Seven plus five is é."
    (audio,) = processor.post_process_multimodal_output(sequences, generation_mode="audio")
    np.testing.assert_array_equal(audio, processor.decode_codes([4, 5, 6]))
    with pytest.raises(ValueError, match="'text' or 'audio'"):
        processor.post_process_multimodal_output(sequences, generation_mode="image")


@pytest.mark.parametrize("name", ["reply.wav", "reply.flac", "reply.ogg"])
def test_a_saved_audio_is_read_back(processor, tmp_path, name):
    processor.save_audio(tone(), tmp_path / name)
    samples, rate = soundfile.read(tmp_path / name)
    assert rate == RATE
    np.testing.assert_allclose(samples, tone(), atol=0.02)
    processor.save_audio(torch.from_numpy(tone())[None], tmp_path / name, sampling_rate=8000)
    assert soundfile.info(tmp_path / name).samplerate == 8000
    processor.save_audio(TttReply("", tone(), 22050), tmp_path / name)
    assert soundfile.info(tmp_path / name).samplerate == 22050


def test_what_cannot_be_saved_as_one_waveform_is_an_error(processor, tmp_path):
    with pytest.raises(ValueError, match=r"reply\.txt. has no known audio extension"):
        processor.save_audio(tone(), tmp_path / "reply.txt")
    with pytest.raises(ValueError, match="each waveform to its own file"):
        processor.save_audio(np.stack([tone(), tone()]), tmp_path / "reply.wav")
    with pytest.raises(ValueError, match="NaN or infinite"):
        processor.save_audio(np.array([0.0, np.nan]), tmp_path / "reply.wav")
    with pytest.raises(ValueError, match="int64: convert"):
        processor.save_audio(np.array([0, 1]), tmp_path / "reply.wav")
    processor.save_audio(np.zeros(1), tmp_path / "short.wav")


# ---------------------------------------------------------------------------------------------------------------- codec


def test_a_processor_without_a_checkpoint_says_how_to_get_a_codec(processor):
    processor = TttProcessor(processor.tokenizer)
    with pytest.raises(ValueError, match=r"set `processor\.codec`"):
        processor.encode_audio((tone(), RATE))


def test_a_codec_of_another_size_is_refused(processor):
    config = TttCodecConfig(hidden_size=16, intermediate_size=16, vocoder_hidden_size=16, fsq_levels=[4, 2])
    with pytest.raises(ValueError, match="has 8 codes, but the tokenizer's audio alphabet has 16"):
        processor.codec = TttCodecModel(config)


def test_a_checkpoint_without_a_codec_is_named(saved):
    (saved / "codec" / "config.json").unlink()
    processor = AutoProcessor.from_pretrained(saved)
    with pytest.raises(OSError, match=r"The codec '.*checkpoint/codec' cannot be loaded"):
        processor.encode_audio((tone(), RATE))


def test_threads_load_the_codec_once(saved, monkeypatch):
    processor = AutoProcessor.from_pretrained(saved)
    loads = []
    load = AutoModel.from_pretrained
    monkeypatch.setattr(AutoModel, "from_pretrained", lambda *args, **kwargs: loads.append(1) or load(*args, **kwargs))
    codecs = []
    threads = [threading.Thread(target=lambda: codecs.append(processor.codec)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1 and len(set(map(id, codecs))) == 1


def test_representation_settings_and_copies_leave_the_weights_alone(processor, codec):
    assert processor.to_dict() == {
        "codec_name_or_path": "./codec",
        "text_tokens": 3,
        "audio_tokens": 4,
        "max_audio_seconds": 600.0,
        "processor_class": "TttProcessor",
    }
    assert "TttProcessor" in repr(processor)
    assert copy.deepcopy(processor).codec is codec


def test_a_pickled_processor_loads_its_codec_again(saved):
    processor = AutoProcessor.from_pretrained(saved)
    unloaded = len(pickle.dumps(processor))
    codes = processor.encode_audio((tone(), RATE))
    assert len(pickle.dumps(processor)) < unloaded + 10_000
    assert pickle.loads(pickle.dumps(processor)).encode_audio((tone(), RATE)) == codes


# --------------------------------------------------------------------------------------------------- loading and saving


def test_a_saved_processor_loads_with_its_settings_and_codec(saved, processor):
    loaded = AutoProcessor.from_pretrained(saved)
    assert type(loaded) is TttProcessor
    assert loaded.to_dict() == {**processor.to_dict(), "processor_class": "TttProcessor"}
    assert loaded.vocabulary == processor.vocabulary and loaded.layout == processor.layout
    assert loaded.chat_template == processor.chat_template
    assert loaded.encode_audio((tone(), RATE)) == processor.encode_audio((tone(), RATE))
    assert AutoTokenizer.from_pretrained(saved).chat_template == processor.chat_template
    assert AutoProcessor.from_pretrained(saved, max_audio_seconds=0.1).max_audio_seconds == 0.1


def test_the_length_limit_is_the_processors(processor):
    processor.max_audio_seconds = 0.1
    with pytest.raises(ValueError, match=r"longer than 0\.1 s"):
        prompt_ids(processor, processor.conversation("asr", audio=(tone(), RATE)))


def test_the_codecs_folder_is_copied_even_if_it_was_never_loaded(saved, tmp_path):
    (saved / "codec" / "NOTICE").write_text("kept")
    AutoProcessor.from_pretrained(saved).save_pretrained(tmp_path / "again")
    weights = [(folder / "codec" / "model.safetensors").read_bytes() for folder in (saved, tmp_path / "again")]
    assert weights[0] == weights[1]
    assert (tmp_path / "again" / "codec" / "NOTICE").read_text() == "kept"


def test_only_what_belongs_to_a_codec_is_copied_from_the_folder_that_a_checkpoint_names(saved, tmp_path):
    private = tmp_path / "private"
    private.mkdir()
    (private / "secret.txt").write_text("mine")
    config = json.loads((saved / "processor_config.json").read_text())
    for name, message in ((str(private), "cannot be loaded"), ("./../private", "outside of its checkpoint")):
        (saved / "processor_config.json").write_text(json.dumps(config | {"codec_name_or_path": name}))
        with pytest.raises((OSError, ValueError), match=message):
            AutoProcessor.from_pretrained(saved).save_pretrained(tmp_path / "published")
    (saved / "processor_config.json").write_text(json.dumps(config))
    (saved / "codec" / "secret.txt").write_text("mine")
    (saved / "codec" / ".env").write_text("mine")
    AutoProcessor.from_pretrained(saved).save_pretrained(tmp_path / "published")
    assert not [path for path in (tmp_path / "published").rglob("*") if path.name in ("secret.txt", ".env")]


@pytest.mark.parametrize("content", [b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", b""])
def test_weights_that_are_damaged_or_only_a_pointer_are_named(saved, content):
    (saved / "codec" / "model.safetensors").write_bytes(content)
    with pytest.raises(
        OSError, match=r"The weights of '.*codec' are damaged, or Git LFS pointers instead of the files"
    ):
        AutoProcessor.from_pretrained(saved).encode_audio((tone(), RATE))


def test_a_batch_of_ids_is_no_reply(processor):
    with pytest.raises(ValueError, match="use `batch_decode_reply`"):
        processor.decode_reply(torch.zeros(1, 4, dtype=torch.long))


def test_a_codec_from_another_folder_moves_in_when_the_processor_is_saved(processor, codec, tmp_path):
    codec.save_pretrained(tmp_path / "elsewhere")
    other = TttProcessor(processor.tokenizer, codec_name_or_path=str(tmp_path / "elsewhere"))
    other.save_pretrained(tmp_path / "checkpoint")
    assert other.codec_name_or_path == str(tmp_path / "elsewhere")
    loaded = AutoProcessor.from_pretrained(tmp_path / "checkpoint")
    assert loaded.codec_name_or_path == "./codec"
    assert loaded.encode_audio((tone(), RATE)) == other.encode_audio((tone(), RATE))


def test_a_codec_with_a_hub_id_of_its_own_is_saved_by_name(processor, tmp_path):
    other = TttProcessor(processor.tokenizer, codec_name_or_path="somebody/codec")
    other.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "processor_config.json").read_text())["codec_name_or_path"] == "somebody/codec"
    assert not (tmp_path / "codec").exists()


def test_a_checkpoint_on_the_hub_has_its_codec_beside_it_at_the_same_revision(saved, processor, tmp_path):
    commit = "0123456789012345678901234567890123456789"  # a downloaded repository, as the Hub's cache keeps it
    repository = tmp_path / "cache" / "models--somebody--ttt"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "v1").write_text(commit)
    shutil.copytree(saved, repository / "snapshots" / commit)
    (repository / "snapshots" / commit / "config.json").write_text('{"model_type": "ttt"}')
    options = {"cache_dir": tmp_path / "cache", "local_files_only": True, "revision": "v1"}
    loaded = AutoProcessor.from_pretrained("somebody/ttt", **options)
    loaded.save_pretrained(tmp_path / "never_loaded")
    assert loaded.encode_audio((tone(), RATE)) == processor.encode_audio((tone(), RATE))
    copied = AutoProcessor.from_pretrained(tmp_path / "never_loaded")
    assert copied.encode_audio((tone(), RATE)) == processor.encode_audio((tone(), RATE))


def test_saving_over_the_folder_it_came_from_keeps_the_codec(saved):
    AutoProcessor.from_pretrained(saved).save_pretrained(saved)
    assert (saved / "codec" / "model.safetensors").stat().st_size > 0


def test_a_saved_processor_runs_where_the_packages_are_not_installed(saved, processor, tmp_path):
    AutoProcessor.from_pretrained(saved).save_pretrained(tmp_path / "again")  # saved again from the installed package
    soundfile.write(tmp_path / "question.wav", tone(), RATE, subtype="FLOAT")
    script = f"""
from transformers import AutoProcessor
processor = AutoProcessor.from_pretrained({str(tmp_path / "again")!r}, trust_remote_code=True)
inputs = processor.apply_chat_template(
    processor.conversation("asr", audio={str(tmp_path / "question.wav")!r}),
    add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt")
reply = processor.decode_reply(inputs["input_ids"][0])
processor.save_pretrained({str(tmp_path / "third")!r})
print(processor.decode_reply(processor.layout.build_reply([1], [1, 2])).audio.shape, inputs["input_ids"].tolist())
"""
    environment = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "PATH": os.environ["PATH"]}
    result = subprocess.run(
        [sys.executable, "-I", "-c", NOT_INSTALLED + script],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    expected = prompt_ids(processor, processor.conversation("asr", audio=(tone(), RATE)))["input_ids"].tolist()
    assert result.stdout.strip() == f"(1280,) {expected}"
    assert (tmp_path / "third" / "processing_ttt.py").is_file()
    assert (tmp_path / "third" / "codec" / "model.safetensors").is_file()


def test_the_tokenizer_is_used_by_one_thread_at_a_time(processor, monkeypatch):
    """Its settings change from call to call: how it pads, and whether markers are markers."""
    inside, overlaps, encode = [], [], processor.tokenizer._encode_plus

    def watched(*args, **kwargs):
        inside.append(None)
        time.sleep(0.01)
        overlaps.append(len(inside) > 1)
        try:
            return encode(*args, **kwargs)
        finally:
            inside.pop()

    monkeypatch.setattr(processor.tokenizer, "_encode_plus", watched)
    threads = [threading.Thread(target=processor, args=("Hello",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == [False] * 4
