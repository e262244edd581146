import copy
import io

import numpy as np
import pytest
import soundfile
import torch
from transformers import AutoProcessor

from processing_ttt import (
    RELEASED_SYSTEM_PROMPTS,
    TASKS,
    TttCodecModel,
    TttProcessor,
    TttReply,
)

RATE = 16000


def tone(seconds=0.3, rate=RATE, hz=300):
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


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


def test_audio_is_between_its_markers_with_one_token_for_each_code(processor):
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
