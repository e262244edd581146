"""
`ttt convert` and `ttt init`: what they write loads anywhere, and what they cannot read is refused with the reason,
before anything is written.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from checkout import own_packages
from clean_process import NOT_INSTALLED
from codec_fixtures import narrow_codec
from huggingface_hub import ModelCard
from processing_fixtures import CORPUS
from released_fixtures import CODEBOOK_SIZE, released_tokenizer, write_language_model, write_released
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoProcessor, AutoTokenizer, GenerationConfig

from modeling_ttt import TttForConditionalGeneration, convert_released_model
from processing_ttt import RELEASED_SYSTEM_PROMPTS, TttProcessor
from ttt_cli import checkpoints


def ttt(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `ttt` as a user does."""
    command = [sys.executable, "-m", "ttt_cli", *map(str, arguments)]
    return subprocess.run(command, env=own_packages(), capture_output=True, text=True, timeout=300)


def write_codec(folder: Path) -> Path:
    """Write a small codec with as many codes as the released fixtures have."""
    codec = narrow_codec([8, 5])
    assert codec.config.codebook_size == CODEBOOK_SIZE
    codec.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> dict:
    """A released checkpoint, sharded, and what the command line made of it."""
    folder = tmp_path_factory.mktemp("convert")
    language_model = write_released(folder / "released", shard_size="20KB")
    (folder / "released" / "README.md").write_text("---\nlicense: apache-2.0\nlanguage: [zh, en]\n---\n# Theirs\n")
    codec = write_codec(folder / "codec")
    done = ttt("convert", folder / "released", folder / "ours", "--codec", codec)
    assert done.returncode == 0, done.stderr
    return {"source": folder / "released", "output": folder / "ours", "done": done, "language_model": language_model}


def test_every_marker_is_shown_with_its_id(converted):
    shown = converted["done"].stdout
    vocab = released_tokenizer().get_vocab()
    for token in (
        "<|im_start|>", "<|im_end|>", "<|begin_of_audio|>", "<|end_of_audio|>", "<|begin_of_quad|>", "<|audio|>",
        "<|mask_token|>", "<|end_of_audio_new|>", "<|end_of_audio_span_last|>",
    ):  # fmt: skip
        assert [token, str(vocab[token])] in [line.split() for line in shown.splitlines()]
    assert f"{CODEBOOK_SIZE} codes" in shown
    assert "Traceback" not in converted["done"].stderr


def test_weights_are_the_very_files_and_the_model_the_same(converted):
    files = [path.name for path in converted["source"].glob("model*")]
    assert len(files) > 2
    for name in files:
        assert (converted["output"] / name).read_bytes() == (converted["source"] / name).read_bytes()
    model = AutoModel.from_pretrained(converted["output"])
    assert type(model) is TttForConditionalGeneration
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.equal(model(ids).logits, converted["language_model"](ids).logits)


def test_the_config_is_that_of_direct_loading_and_ours(converted):
    ours = AutoModel.from_pretrained(converted["output"]).config.to_dict()
    direct = TttForConditionalGeneration.from_pretrained(converted["source"]).config.to_dict()
    for name in ("auto_map", "architectures", "_name_or_path", "transformers_version"):
        ours.pop(name, None), direct.pop(name, None)
    assert ours == direct
    written = json.loads((converted["output"] / "config.json").read_text())
    assert (written["model_type"], written["architectures"]) == ("ttt", ["TttForConditionalGeneration"])


def test_generation_is_the_papers(converted):
    generation = GenerationConfig.from_pretrained(converted["output"])
    assert (generation.block_length, generation.denoising_steps) == (32, 10)
    assert (generation.do_sample, generation.top_k, generation.top_p) == (True, 10, 0.95)
    assert generation.eos_token_id == released_tokenizer().get_vocab()["<|im_end|>"]


def test_the_processor_has_the_release_s_prompts_and_reads_text_as_before(converted):
    processor = AutoProcessor.from_pretrained(converted["output"])
    assert processor.system_prompts == RELEASED_SYSTEM_PROMPTS
    assert RELEASED_SYSTEM_PROMPTS["chat"] in processor.apply_chat_template([{"role": "user", "content": "Hi"}])
    assert processor.tokenizer.eos_token == "<|im_end|>"
    assert processor.codec.config.codebook_size == CODEBOOK_SIZE
    before = AutoTokenizer.from_pretrained(converted["source"])
    assert [processor.tokenizer.encode(text) for text in CORPUS] == [before.encode(text) for text in CORPUS]


def test_the_card_says_where_it_comes_from_and_keeps_licence_and_language(converted):
    card = ModelCard.load(converted["output"] / "README.md")
    assert (card.data.license, card.data.language) == ("apache-2.0", ["zh", "en"])
    assert "Converted by `ttt convert` from `released`" in card.text


CLEAN_PROCESS = """
import torch
from transformers import AutoModel, AutoProcessor

torch.set_num_threads(1)
folder, question, answer = sys.argv[1:]
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
inputs = processor.apply_chat_template(
    processor.conversation("chat", audio=question),
    add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt")
begin = torch.tensor([[model.config.begin_audio_token_id]])  # a random model would hardly speak by itself
ids = torch.cat([inputs["input_ids"], begin], dim=1)
sequence = model.generate(ids, max_new_tokens=60, generator=torch.Generator().manual_seed(0))[0]
reply = processor.decode_reply(sequence[ids.shape[1]:])
processor.save_audio(reply, answer)
"""


def test_a_converted_checkpoint_talks_in_a_clean_process_from_wav_to_wav(converted, tmp_path):
    question, answer = tmp_path / "question.wav", tmp_path / "answer.wav"
    soundfile.write(question, 0.3 * np.sin(np.arange(12_000) / 6), 16_000)
    environment = {
        "HOME": str(tmp_path),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-I", "-c", NOT_INSTALLED + CLEAN_PROCESS, str(converted["output"]), str(question),
        str(answer)],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    info = soundfile.info(answer)
    assert info.samplerate == 16_000
    assert info.frames >= 640


def test_a_tied_checkpoint_in_one_file_converts_with_or_without_a_second_copy_of_the_embedding(tmp_path):
    language_model = write_released(tmp_path / "tied", tied=True)
    convert_released_model(tmp_path / "tied", tmp_path / "once")
    weights = load_file(tmp_path / "tied" / "model.safetensors")
    assert "lm_head.weight" not in weights
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, tmp_path / "tied" / "model.safetensors", metadata={"format": "pt"})
    convert_released_model(tmp_path / "tied", tmp_path / "twice")
    ids = torch.tensor([[5, 6, 7, 8]])
    for folder in ("once", "twice"):
        model = AutoModel.from_pretrained(tmp_path / folder)
        assert model.lm_head.weight is model.get_input_embeddings().weight
        assert torch.equal(model(ids).logits, language_model(ids).logits)


def test_weights_that_are_not_safetensors_become_safetensors(tmp_path):
    language_model = write_released(tmp_path / "released")
    torch.save(language_model.state_dict(), tmp_path / "released" / "pytorch_model.bin")
    (tmp_path / "released" / "model.safetensors").unlink()
    convert_released_model(tmp_path / "released", tmp_path / "ours")
    assert (tmp_path / "ours" / "model.safetensors").is_file()
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.equal(AutoModel.from_pretrained(tmp_path / "ours")(ids).logits, language_model(ids).logits)


def refused(source: Path, **options) -> str:
    """Convert, and give the reason why not; nothing may have been written."""
    output = source.parent / "refused"
    with pytest.raises((ValueError, OSError)) as caught:
        checkpoints.convert(str(source), output, **options)
    assert not output.exists()
    return str(caught.value)


@pytest.mark.parametrize(
    "token",
    [
        "<|im_start|>", "<|im_end|>", "<|begin_of_audio|>", "<|end_of_audio|>", "<|begin_of_quad|>", "<|audio|>",
        "<|audio_0|>",
        "<|mask_token|>", "<|end_of_audio_new|>", "<|end_of_audio_span_last|>",
    ],
)  # fmt: skip
def test_a_tokenizer_without_a_marker_is_refused_by_its_name(tmp_path, token):
    write_released(tmp_path / "released", without=token, mask_token=None, audio_token_id_start=None)
    assert token in refused(tmp_path / "released")


def test_a_tokenizer_that_splits_a_marker_is_refused(tmp_path):
    write_released(tmp_path / "released")
    path = tmp_path / "released" / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    token = next(one for one in tokenizer["added_tokens"] if one["content"] == "<|begin_of_quad|>")
    tokenizer["added_tokens"].remove(token)
    tokenizer["model"]["vocab"]["<|begin_of_quad|>"] = token["id"]
    path.write_text(json.dumps(tokenizer))
    assert "writes <|begin_of_quad|> as [" in refused(tmp_path / "released")


def test_without_a_padding_token_the_end_of_a_reply_fills_batches(tmp_path):
    write_released(tmp_path / "released")
    tokenizer = released_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path / "released")
    path = tmp_path / "released" / "tokenizer_config.json"
    assert "pad_token" not in {name for name, value in json.loads(path.read_text()).items() if value}
    checkpoints.convert(str(tmp_path / "released"), tmp_path / "ours")
    processor = AutoProcessor.from_pretrained(tmp_path / "ours")
    assert AutoModel.from_pretrained(tmp_path / "ours").config.pad_token_id == processor.vocabulary.pad_token_id


def test_a_vocabulary_smaller_than_the_ids_is_refused(tmp_path):
    write_released(tmp_path / "released")
    path = tmp_path / "released" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"vocab_size": 349}))
    assert "outside the vocabulary of 349 ids" in refused(tmp_path / "released")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda weights: weights.pop("model.norm.weight"),
        "lacks 1 tensor(s) that its config.json does call for: model.norm.weight"),
        (lambda weights: weights.update({"audio_head.weight": torch.zeros(3)}),
        "has 1 tensor(s) .* not call for: audio_head.weight"),
        (lambda weights: weights.update({"model.norm.weight": torch.zeros(3)}), "model.norm.weight .* has shape"),
    ],
    ids=["missing", "unexpected", "shape"],
)  # fmt: skip
def test_weights_that_are_not_those_of_the_config_are_refused(tmp_path, change, expected):
    write_released(tmp_path / "released")
    weights = load_file(tmp_path / "released" / "model.safetensors")
    change(weights)
    save_file(weights, tmp_path / "released" / "model.safetensors", metadata={"format": "pt"})
    reason = refused(tmp_path / "released")
    for part in expected.split(" .* "):
        assert part in reason


def test_a_missing_shard_is_refused(tmp_path):
    write_released(tmp_path / "released", shard_size="20KB")
    shard = sorted((tmp_path / "released").glob("*.safetensors"))[1]
    shard.unlink()
    assert shard.name in refused(tmp_path / "released")


def test_an_index_that_names_a_file_outside_of_its_folder_is_refused(tmp_path):
    write_released(tmp_path / "released", shard_size="20KB")
    index = tmp_path / "released" / "model.safetensors.index.json"
    index.write_text(index.read_text().replace('"model-00001', '"../model-00001'))
    assert "outside of the folder" in refused(tmp_path / "released")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"[]", "The configuration of .* cannot be loaded"),
        ("config.json", b"{", "not a valid JSON file"),
        ("tokenizer.json", b"{}", "cannot be loaded"),
        ("model.safetensors", b"{", "The weights of .* are damaged"),
    ],
)
def test_a_damaged_source_is_one_sentence(tmp_path, name, content, message):
    write_released(tmp_path / "released")
    (tmp_path / "released" / name).write_bytes(content)
    with pytest.raises((ValueError, OSError), match=message):
        checkpoints.convert(str(tmp_path / "released"), tmp_path / "converted")


@pytest.mark.parametrize("fault", ["half of the weights", "no configuration", "damaged weights"])
def test_a_damaged_language_model_is_one_sentence(tmp_path, fault):
    source = tmp_path / "plain"
    write_language_model(source, "qwen2")
    weights = load_file(source / "model.safetensors")
    if fault == "half of the weights":
        half = {key: weights[key] for key in sorted(weights)[::2]}
        save_file(half, source / "model.safetensors", metadata={"format": "pt"})
    elif fault == "no configuration":
        (source / "config.json").write_text("[]")
    else:
        (source / "model.safetensors").write_bytes(b"{")
    with pytest.raises(
        (ValueError, OSError), match=r"lack \d+ tensors|are damaged|cannot be loaded|Unrecognized model"
    ):
        checkpoints.init(str(source), tmp_path / "ours", audio_codebook_size=16)


def test_code_that_a_source_brings_is_refused_without_a_question(tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on standard input"))
    names = {"AutoConfig": "foreign.Config", "AutoModelForCausalLM": "foreign.Model"}
    foreign = tmp_path / "foreign"
    write_language_model(foreign, "qwen2")
    config = json.loads((foreign / "config.json").read_text())
    (foreign / "config.json").write_text(json.dumps(config | {"model_type": "foreign", "auto_map": names}))
    with pytest.raises(ValueError, match="trust_remote_code"):
        checkpoints.init(str(foreign), tmp_path / "ours", audio_codebook_size=16)


def test_what_is_no_released_checkpoint_is_refused_with_the_way_out(tmp_path):
    write_language_model(tmp_path / "plain", "qwen2")
    assert "ttt init" in refused(tmp_path / "plain")
    write_released(tmp_path / "released")
    TttForConditionalGeneration.from_pretrained(tmp_path / "released").save_pretrained(tmp_path / "ours")
    assert "Text-to-Talk checkpoint already" in refused(tmp_path / "ours")
    (tmp_path / "empty").mkdir()
    assert "config.json" in refused(tmp_path / "empty")
    assert "nowhere" in refused(tmp_path / "nowhere")


def test_a_codec_of_another_size_is_refused(tmp_path):
    write_released(tmp_path / "released")
    narrow_codec().save_pretrained(tmp_path / "codec")
    assert "has 16 codes, but the tokenizer's audio alphabet has 40" in refused(
        tmp_path / "released", codec=str(tmp_path / "codec")
    )


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path):
    write_released(tmp_path / "released")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    done = ttt("convert", tmp_path / "released", tmp_path / "full")
    assert done.returncode == 1
    assert "full" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]


def test_talk_says_what_to_do_with_a_checkpoint_that_is_not_converted(tmp_path):
    write_released(tmp_path / "released")
    done = ttt("talk", "--model", tmp_path / "released", "--text", "Hi.")
    assert done.returncode == 1
    assert "ttt convert" in done.stderr


@pytest.mark.parametrize("family", ["qwen2", "llama", "gemma3_text"])
def test_init_writes_a_folder_that_loads_and_reads_text_as_before(tmp_path, family):
    write_language_model(tmp_path / "lm", family, tied=family == "gemma3_text")
    codec = write_codec(tmp_path / "codec")
    checkpoints.init(str(tmp_path / "lm"), tmp_path / "ttt", codec=str(codec))
    model, processor = AutoModel.from_pretrained(tmp_path / "ttt"), AutoProcessor.from_pretrained(tmp_path / "ttt")
    assert type(processor) is TttProcessor
    assert processor.codec.config.codebook_size == model.config.audio_codebook_size == CODEBOOK_SIZE
    for name, value in processor.vocabulary.config_kwargs().items():
        assert getattr(model.config, name) == value
    before = AutoTokenizer.from_pretrained(tmp_path / "lm")
    for text in CORPUS:
        assert (
            processor.tokenizer(text, add_special_tokens=False).input_ids
            == before(text, add_special_tokens=False).input_ids
        )


def test_init_takes_a_codebook_size_and_a_seed(tmp_path):
    write_language_model(tmp_path / "lm", "qwen3")
    for name in ("first", "second"):
        checkpoints.init(str(tmp_path / "lm"), tmp_path / name, audio_codebook_size=12, seed=3)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert torch.equal(first["lm_head.weight"], second["lm_head.weight"])
    assert AutoProcessor.from_pretrained(tmp_path / "first").vocabulary.codebook_size == 12
