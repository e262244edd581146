"""The codec of GLM-4-Voice beside its slow restatement: waveforms, replies and options of which no recording exists."""

import json

import glm4_voice_restatement as restated
import pytest
import torch
from glm4_voice_fixtures import (
    FLOW,
    RECORDED,
    TOKENIZER,
    VOCODER,
    codes_of,
    needs_recorded,
    noise,
    recorded,
    released_flow_name,
    tiny_decoder_model,
    tiny_tokenizer_model,
    write_released_decoder,
    write_released_tokenizer,
)
from safetensors.torch import load_file, save_file

from processing_ttt.glm4_voice_convert import convert_decoder
from processing_ttt.glm4_voice_tokenizer import Glm4VoiceTokenizerModel

FLOW_HEADS = {
    "heads": FLOW["num_attention_heads"],
    "block": FLOW["block_size"],
    "unet_heads": FLOW["unet_attention_heads"],
}
DILATIONS = {
    "dilations": VOCODER["resblock_dilation_sizes"][0],
    "source_dilations": VOCODER["source_resblock_dilation_sizes"][0],
}
SEGMENT = TOKENIZER["max_source_positions"] * 320


def close(actual, expected, atol):
    torch.testing.assert_close(actual.double(), expected.double(), atol=atol, rtol=0)


def weights_of(path):
    read = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    return restated.as_double(read)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------ the restatement beside the original's numbers


@needs_recorded
@pytest.mark.parametrize(
    "case", ["short", *(pytest.param(case, marks=pytest.mark.slow) for case in ("plain", "prompt"))]
)
def test_the_restated_flow_is_the_original(case):
    numbers = recorded(f"decoder/flow_{case}.npz")
    codes = torch.cat([numbers[name][0] for name in ("prompt_token", "token") if name in numbers])
    prompt = numbers["prompt_feat"].transpose(1, 2) if "prompt_feat" in numbers else None
    weights = weights_of(RECORDED / "decoder" / "flow.pt")
    mel = restated.flow_mel(
        weights, codes, numbers["noise"], 4, 8, 3, prompt_mel=prompt, voice=numbers.get("embedding")
    )
    close(mel, numbers["mel"], 1e-4)


@pytest.mark.slow
@needs_recorded
def test_the_restated_vocoder_is_the_original():
    numbers, weights = recorded("decoder/hift_plain.npz"), weights_of(RECORDED / "decoder" / "hift.pt")
    f0 = restated.pitch(weights, numbers["mel"])
    torch.testing.assert_close(f0, numbers["f0"].double(), rtol=1e-4, atol=0)
    source = restated.excitation(weights, numbers["f0"], numbers["phase"], numbers["sine_noise"])
    close(source, numbers["source"], 2e-4)  # the original's phase is rounded to float32
    close(restated.waveform(weights, numbers["mel"], numbers["source"]), numbers["wav"], 1e-4)


@needs_recorded
@pytest.mark.parametrize("case", ["50ms", "1p234s"])
def test_the_restated_speech_tokenizer_is_the_original(case):
    numbers, weights = recorded(f"tokenizer/io_{case}.npz"), weights_of(RECORDED / "tokenizer" / "model.safetensors")
    distances = restated.code_distances(weights, numbers["wav0"], 4, 40, 3, 480000)
    assert torch.equal(distances.argmin(1), numbers["tokens0"])


# ------------------------------------------------------------------------------------------ ours beside the restatement


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    """A small decoder read from the released files, and the weights in these."""
    folder = tmp_path_factory.mktemp("decoder")
    write_released_decoder(folder, tiny_decoder_model())
    return convert_decoder(folder), weights_of(folder / "flow.pt"), weights_of(folder / "hift.pt")


@pytest.mark.parametrize("count", [1, 3, 4, 13, 30])  # less than a block, one, an odd number of frames
@pytest.mark.parametrize(("steps", "scale"), [(10, 0.7), (1, 0.0), (3, 2.0)])
def test_frames_of_any_number_of_codes_steps_and_guidance(decoder, count, steps, scale):
    model, weights, _ = decoder
    codes, start = codes_of(count), normal(1, 8, count * 441 // 64)
    output = model.decode(codes, noise=start, num_inference_steps=steps, guidance_scale=scale)
    expected = restated.flow_mel(weights, codes[0, 0], start, steps=steps, scale=scale, **FLOW_HEADS)
    close(output.mel, expected, 1e-4)


def test_rows_of_several_lengths_each_with_its_voice_and_prompt(decoder):
    model, weights, _ = decoder
    rows = [codes_of(count, seed=count) for count in (13, 2, 21)]
    codes = torch.full((3, 1, 21), -1)
    for row, own in enumerate(rows):
        codes[row, :, : own.shape[-1]] = own
    prompt_codes, voices = torch.cat([codes_of(8, seed=row) for row in range(3)]), normal(3, 6)
    prompt_mel, start = normal(3, 8, 55, seed=1), normal(3, 8, 29 * 441 // 64, seed=2)
    output = model.decode(
        codes,
        speaker_embedding=voices,
        prompt_codes=prompt_codes,
        prompt_mel=prompt_mel,
        num_inference_steps=3,
        noise=start,
    )
    for row, own in enumerate(rows):
        everything = torch.cat([prompt_codes[row, 0], own[0, 0]])
        frames = len(everything) * 441 // 64
        options = {"voice": voices[row : row + 1], "prompt_mel": prompt_mel[row : row + 1], "steps": 3, "scale": 0.6}
        expected = restated.flow_mel(weights, everything, start[row : row + 1, :, :frames], **options, **FLOW_HEADS)
        close(output.mel[row : row + 1, :, : frames - 55], expected, 1e-4)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ({"prompt_codes": codes_of(8)}, "go together"),
        ({"prompt_mel": normal(1, 8, 55)}, "go together"),
        ({"prompt_codes": codes_of(8).expand(2, 1, 8), "prompt_mel": normal(2, 8, 55)}, "batch's 1 rows"),
        ({"prompt_codes": codes_of(8), "prompt_mel": normal(1, 7, 55)}, "shape"),
        ({"prompt_codes": torch.tensor([[[1, 2, -1]]]), "prompt_mel": normal(1, 8, 13)}, "as many in each row"),
        ({"noise": normal(1, 8, 3)}, r"`noise` must have the shape .* \(1, 8, 27\)"),
    ],
)
def test_a_prompt_or_noise_that_does_not_fit_is_refused(decoder, prompt, message):
    with pytest.raises(ValueError, match=message):
        decoder[0].decode(codes_of(4), **prompt)


@pytest.mark.parametrize("counts", [(1,), (2, 9), (5, 5, 1)])
def test_samples_of_frames_of_any_number(decoder, counts):
    model, _, weights = decoder
    frames = [count * 441 // 64 for count in counts]
    mel, phase, samples = normal(len(counts), 8, max(frames)), normal(len(counts), 3, 1), max(frames) * 256
    source_noise = normal(len(counts), 3, samples, seed=1)
    audio = model._vocode(mel, frames, phase, source_noise)
    for row, length in enumerate(frames):
        own, noise_of_row = mel[row : row + 1, :, :length], source_noise[row : row + 1, :, : length * 256]
        f0 = restated.pitch(weights, own)
        torch.testing.assert_close(model.vocoder.f0(own).double(), f0, rtol=1e-4, atol=0)
        source = restated.excitation(weights, f0, phase[row : row + 1], noise_of_row)
        close(audio[row, :, : length * 256], restated.waveform(weights, own, source, **DILATIONS), 1e-4)


@pytest.fixture(scope="module")
def hearer(tmp_path_factory):
    """A small speech tokenizer read from the published files, and the weights in these."""
    folder = tmp_path_factory.mktemp("tokenizer")
    write_released_tokenizer(folder, tiny_tokenizer_model())
    return Glm4VoiceTokenizerModel.from_pretrained(folder), weights_of(folder / "model.safetensors")


def assert_codes(codes, weights, audio):
    """They are the restated ones, wherever these are clear."""
    distances = restated.code_distances(weights, audio, 3, 40, 2, SEGMENT)
    (best, second), places = distances.topk(2, largest=False)[0].T, distances.argmin(1)
    clear = second - best > 1e-3 * best.clamp(min=1e-3)
    assert len(codes) == len(places) and clear.float().mean() > 0.8
    assert torch.equal(codes[clear], places[clear])


@pytest.mark.parametrize("samples", [1, 700, 1280, 1281, 12799, 12800, SEGMENT, SEGMENT + 1, 100003])
def test_codes_of_audio_of_any_length(hearer, samples):
    model, weights = hearer
    audio = noise(samples, seed=samples)
    assert_codes(model.encode(audio[None, None]).audio_codes[0, 0], weights, audio)


def test_codes_of_waveforms_of_several_lengths_at_once(hearer):
    model, weights = hearer
    waveforms = [noise(samples, seed=samples) for samples in (20001, 60000, 300, SEGMENT)]
    values = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True)
    mask = torch.arange(60000) < torch.tensor([len(audio) for audio in waveforms])[:, None]
    for audio, codes in zip(waveforms, model.encode(values[:, None], mask).audio_codes[:, 0], strict=True):
        assert_codes(codes[codes != -1], weights, audio)


def test_a_whole_encoder_with_prefixed_names_gives_the_same_codes(hearer, tmp_path):
    model, weights = hearer
    whole = {f"model.encoder.{name}": tensor.float() for name, tensor in weights.items()}
    layer = {name: tensor for name, tensor in whole.items() if ".layers.1." in name}
    for index in range(2, 32):  # above the codebook
        whole |= {name.replace(".layers.1.", f".layers.{index}."): normal(*layer[name].shape) for name in layer}
    whole |= {f"model.encoder.layer_norm.{part}": normal(TOKENIZER["d_model"]) for part in ("weight", "bias")}
    save_file(whole, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = {**model.config.to_dict(), "model_type": "whisper", "encoder_layers": 32}
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded, info = Glm4VoiceTokenizerModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    audio = noise(30000)
    assert_codes(loaded.encode(audio[None, None]).audio_codes[0, 0], weights, audio)


def test_released_names_are_those_of_the_restatement(decoder):
    model, weights, _ = decoder
    assert {released_flow_name(name) for name in model.flow.state_dict()} == set(weights)
