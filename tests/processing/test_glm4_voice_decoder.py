import math

import pytest
import torch
from glm4_voice_fixtures import (
    RECORDED,
    codes_of,
    needs_recorded,
    recorded,
    tiny_decoder_model,
)
from huggingface_hub.errors import StrictDataclassClassValidationError
from torch.nn import functional as F
from transformers import (
    AutoModel,
    FastSpeech2ConformerConfig,
)
from transformers.models.fastspeech2_conformer import modeling_fastspeech2_conformer as espnet

from processing_ttt.glm4_voice_configuration import (
    Glm4VoiceDecoderConfig,
    Glm4VoiceFlowConfig,
    Glm4VoiceVocoderConfig,
)
from processing_ttt.glm4_voice_convert import convert_decoder
from processing_ttt.glm4_voice_decoder import Glm4VoiceDecoderModel
from processing_ttt.glm4_voice_flow import (
    FlowAttention,
    Glm4VoiceFlow,
    euler_steps,
    relative_positions,
    relative_to_absolute,
)
from processing_ttt.glm4_voice_hift import Glm4VoiceVocoder
from processing_ttt.glm4_voice_unet import MaskedGroupNorm

FLOW_CASES = ("plain", "prompt", "short")
HOP = 256


def released(float32_source=False):
    model = convert_decoder(RECORDED / "decoder")
    model.vocoder.config.float32_source = float32_source
    return model


def close(actual, expected, atol):
    torch.testing.assert_close(actual, expected, atol=atol, rtol=0)


# ---------------------------------------------------------------------------------------- beside the original's numbers


@needs_recorded
@pytest.mark.parametrize("case", FLOW_CASES)
def test_the_flow_makes_the_frames_of_the_original(case):
    numbers, model = recorded(f"decoder/flow_{case}.npz"), released()
    prompt = {}
    if "prompt_token" in numbers:
        prompt = {
            "prompt_codes": numbers["prompt_token"][:, None],
            "prompt_mel": numbers["prompt_feat"].transpose(1, 2),
        }
    output = model.decode(
        numbers["token"][:, None],
        noise=numbers["noise"],
        speaker_embedding=numbers.get("embedding"),
        **prompt,
    )
    assert output.mel.shape == numbers["mel"].shape
    close(output.mel, numbers["mel"], 1e-4)


@needs_recorded
@pytest.mark.parametrize("case", FLOW_CASES)
def test_every_stage_of_the_flow_is_that_of_the_original(case):
    numbers, flow = recorded(f"decoder/flow_{case}.npz"), released().flow
    codes = torch.cat([numbers[name] for name in ("prompt_token", "token") if name in numbers], dim=1)
    with torch.no_grad():
        encoded = flow.encoder(flow.input_embedding(codes), torch.ones_like(codes, dtype=torch.bool))
        mean = flow.mean(codes, [codes.shape[1]])
        conditions = [numbers["est0_mu"], numbers["est0_spks"][..., None].expand_as(mean), numbers["est0_cond"]]
        nothing = [torch.zeros_like(mean)] * 3
        step5 = torch.tensor([euler_steps(10)[5][0]])
        first = flow.estimator(torch.cat([numbers["est0_x"], *conditions], dim=1), torch.zeros(1))
        free = flow.estimator(torch.cat([numbers["est0_x"], *nothing], dim=1), torch.zeros(1))
        sixth = flow.estimator(torch.cat([numbers["est5_x"], *conditions], dim=1), step5)
    close(encoded, numbers["encoder"], 1e-5)
    close(mean.transpose(1, 2), numbers["mu"], 1e-5)
    close(torch.tensor([time for time, _ in euler_steps(10)]), numbers["t"], 1e-7)
    close(first, numbers["est0_out"], 2e-5)
    close(free, numbers["est0_uncond"], 2e-5)
    close(sixth, numbers["est5_out"], 2e-5)


@needs_recorded
def test_the_vocoder_makes_the_audio_of_the_original():
    numbers, vocoder = recorded("decoder/hift_plain.npz"), released().vocoder
    with torch.no_grad():
        torch.testing.assert_close(vocoder.f0(numbers["mel"]), numbers["f0"], rtol=1e-4, atol=0)
        close(vocoder.synthesise(numbers["mel"], numbers["source"]), numbers["wav"], 1e-4)


@needs_recorded
def test_the_source_is_that_of_the_original_and_by_default_differs_only_by_its_rounding():
    numbers = recorded("decoder/hift_plain.npz")
    given = (numbers["f0"], numbers["phase"], numbers["sine_noise"])
    with torch.no_grad():
        rounded, _ = released(float32_source=True).vocoder.source(*given)
        exact, _ = released().vocoder.source(*given)
        whole = released(float32_source=True).vocoder(numbers["mel"], numbers["phase"], numbers["sine_noise"])
    close(rounded, numbers["source"], 1e-5)
    # From frames on, the pitch differs in its last bits, by CPU, and five seconds of phase add them up.
    close(whole, numbers["wav"], 5e-3)
    # float32 has 24 bits for the cycles of five seconds: half a unit of the ninth harmonic's last one, as an angle of
    # a sine of 0.1
    cycles = float(numbers["f0"].double().sum() * HOP / 22050 * 9)
    close(exact, numbers["source"], 0.1 * 2 * math.pi * 2 ** (math.floor(math.log2(cycles)) - 24) * 9)


@needs_recorded
def test_codes_become_the_audio_of_the_original():
    numbers = recorded("decoder/offline.npz")
    output = released(float32_source=True).decode(
        numbers["token"][:, None],
        noise=numbers["noise"],
        phase=numbers["phase"],
        source_noise=numbers["sine_noise"],
    )
    close(output.audio_values[:, 0], numbers["wav"], 5e-3)  # as above


def test_the_released_size_has_the_published_number_of_parameters():
    with torch.device("meta"):
        flow, vocoder = Glm4VoiceFlow(Glm4VoiceFlowConfig()), Glm4VoiceVocoder(Glm4VoiceVocoderConfig())
    assert sum(parameter.numel() for parameter in flow.parameters()) == 111_166_208
    assert len(flow.state_dict()) == 1185
    normed = [
        module
        for name, module in vocoder.named_modules()
        if isinstance(module, (torch.nn.Conv1d, torch.nn.ConvTranspose1d)) and not name.startswith("source_downs")
    ]
    magnitudes = sum(len(module.weight) for module in normed)  # weight_g in the file, one for each first index
    assert sum(parameter.numel() for parameter in vocoder.parameters()) + magnitudes == 20_460_591
    assert len(vocoder.state_dict()) + len(normed) == 227


# ----------------------------------------------------------------------------------------- beside other implementations


def test_attention_is_that_of_espnet_where_it_sees_everything():
    torch.manual_seed(0)
    config = Glm4VoiceFlowConfig(hidden_size=16, num_attention_heads=2)
    ours = FlowAttention(config)
    theirs = espnet.FastSpeech2ConformerAttention(
        FastSpeech2ConformerConfig(hidden_size=16),
        {"num_attention_heads": 2, "attention_dropout_rate": 0.0},
    )
    torch.nn.init.normal_(ours.pos_bias_u)
    torch.nn.init.normal_(ours.pos_bias_v)
    theirs.load_state_dict(ours.state_dict())
    hidden, positions = torch.randn(2, 7, 16), relative_positions(7, 16, torch.device("cpu"))
    with torch.no_grad():
        expected = theirs(hidden, pos_emb=positions[None])[0]
        close(ours(hidden, positions, torch.ones(7, 7, dtype=torch.bool)), expected, 1e-6)


def test_relative_scores_find_their_place():
    scores = torch.randn(2, 5, 9)
    for row in range(5):
        for column in range(5):
            assert torch.equal(relative_to_absolute(scores)[:, row, column], scores[:, row, 4 - (row - column)])


def test_masked_normalisation_of_a_row_is_that_of_the_row_alone():
    norm = MaskedGroupNorm(2, 6)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    values = torch.randn(2, 6, 9) + 3
    mask = torch.arange(9) < torch.tensor([[9], [4]])
    with torch.no_grad():
        normed = norm(values, mask)
        close(normed[:1], F.group_norm(values[:1], 2, norm.weight, norm.bias), 1e-5)
        close(normed[1:, :, :4], F.group_norm(values[1:, :, :4], 2, norm.weight, norm.bias), 1e-5)


# ------------------------------------------------------------------------------------------------------------ behaviour


@pytest.mark.parametrize("count", [1, 2, 5, 63, 64])
def test_audio_has_256_samples_for_each_of_its_frames(count):
    output = tiny_decoder_model().decode(codes_of(count))
    assert output.audio_values.shape == (1, 1, count * 441 // 64 * HOP)
    assert output.mel.shape == (1, 8, count * 441 // 64)
    assert output.audio_values.dtype == torch.float32


def test_generators_choose_the_take_and_nothing_else():
    model, codes = tiny_decoder_model(), codes_of(9)
    first, again, other = (
        model.decode(codes, generator=torch.Generator().manual_seed(seed)).audio_values for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    both = model.decode(codes.repeat(2, 1, 1), generator=[torch.Generator().manual_seed(seed) for seed in (3, 4)])
    close(both.audio_values, torch.cat([first, other]), 1e-5)
    with pytest.raises(ValueError, match="one for each of the 1 rows; 2 came"):
        model.decode(codes, generator=[torch.Generator(), torch.Generator()])


def test_without_guidance_the_other_branch_is_not_computed():
    model, batches = tiny_decoder_model(), []
    model.flow.estimator.register_forward_hook(lambda module, inputs, output: batches.append(len(output)))
    for scale in (0.7, 0.0):
        model.decode(codes_of(5), guidance_scale=scale, num_inference_steps=4)
    assert batches == [2] * 4 + [1] * 4


def test_guidance_and_steps_follow_their_formulas():
    model = tiny_decoder_model()
    mean, noise = torch.randn(1, 8, 20), torch.randn(1, 8, 20)
    with torch.no_grad():
        speaker = model.flow.speaker_projection.bias[None, :, None].expand_as(mean)
        nothing, mel = torch.zeros_like(mean), noise
        for step in range(3):
            times = [1 - math.cos(math.pi / 2 * (step + offset) / 3) for offset in (0, 1)]
            time = torch.tensor([times[0]])
            guided = model.flow.estimator(torch.cat([mel, mean, speaker, nothing], dim=1), time)
            free = model.flow.estimator(torch.cat([mel, nothing, nothing, nothing], dim=1), time)
            mel = mel + (times[1] - times[0]) * (1.5 * guided - 0.5 * free)
        close(model.flow.sample(mean, [20], noise, guidance_scale=0.5), mel, 1e-5)


def test_a_prompt_is_taken_and_not_returned():
    model, codes = tiny_decoder_model(), codes_of(20)
    frames, prompt_frames = 20 * 441 // 64, 8 * 441 // 64
    prompt = torch.randn(1, 8, prompt_frames)
    output = model.decode(codes[..., 8:], prompt_codes=codes[..., :8], prompt_mel=prompt)
    assert output.mel.shape[-1] == frames - prompt_frames
    assert output.audio_values.shape[-1] == (frames - prompt_frames) * HOP
    other = model.decode(codes[..., 8:], prompt_codes=codes[..., :8], prompt_mel=prompt + 1)
    assert not torch.allclose(output.mel, other.mel)
    with pytest.raises(ValueError, match="The prompt has 55 frames, but prompt and codes together only 41"):
        model.decode(codes[..., 1:6], prompt_codes=codes[..., :1], prompt_mel=prompt)


def test_a_speaker_embedding_counts_by_its_direction():
    model, codes, voice = tiny_decoder_model(), codes_of(5), torch.randn(1, 6)
    silent, given, louder = (
        model.decode(codes, speaker_embedding=embedding).mel for embedding in (None, voice, 3 * voice)
    )
    assert not torch.allclose(silent, given)
    close(given, louder, 1e-5)
    with pytest.raises(ValueError, match=r"speaker_embedding must have the shape \(1, 6\), got \(6,\)"):
        model.decode(codes, speaker_embedding=voice[0])


def test_samples_depend_on_the_stated_number_of_frames():
    for changes in ({}, {"resblock_kernel_sizes": [3, 11]}, {"source_resblock_kernel_sizes": [9, 3]}):
        vocoder = tiny_decoder_model(vocoder=changes).vocoder
        context, frames = vocoder.config.context_frames, 50
        mel = torch.randn(1, 8, frames, requires_grad=True)
        source = torch.randn(1, 1, frames * HOP, requires_grad=True)
        audio = vocoder.synthesise(mel, source)[0, 25 * HOP : 26 * HOP].sum()
        for gradient in torch.autograd.grad(audio, (mel, source)):
            moved = gradient[0].abs().sum(0).view(frames, -1).sum(1).nonzero()
            assert 25 - context <= moved.min() and moved.max() <= 25 + context
            assert moved.max() > 25 + context / 3
        pitch = vocoder.f0(mel)[0, 25]
        moved = torch.autograd.grad(pitch, mel)[0][0].abs().sum(0).nonzero()
        assert (moved.min(), moved.max()) == (
            25 - vocoder.config.f0_context_frames,
            25 + vocoder.config.f0_context_frames,
        )


def test_it_is_saved_and_found_again(tmp_path):
    model, codes = tiny_decoder_model(), codes_of(7)
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is Glm4VoiceDecoderModel
    assert torch.equal(loaded.decode(codes).audio_values, model.decode(codes).audio_values)


def test_the_vocoder_stays_in_float32_when_the_flow_does_not(tmp_path):
    model, codes = tiny_decoder_model(), codes_of(7)
    model.save_pretrained(tmp_path)
    loaded = Glm4VoiceDecoderModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert loaded.flow.estimator.final_proj.weight.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in loaded.vocoder.parameters()} == {torch.float32}
    assert torch.equal(loaded.vocoder.conv_pre.weight, model.vocoder.conv_pre.weight)
    exact, coarse = model.decode(codes).mel, loaded.decode(codes).mel
    assert coarse.dtype == torch.float32
    assert (coarse - exact).norm() < 0.05 * exact.norm()


def test_a_fresh_model_has_weights_that_can_be_used():
    model = Glm4VoiceDecoderModel(tiny_decoder_model().config)
    assert torch.isfinite(model.decode(codes_of(3)).audio_values).all()


@pytest.mark.parametrize(
    ("flow", "vocoder", "message"),
    [
        ({"num_mel_bins": 7}, {}, "num_mel_bins of flow_config and vocoder_config"),
        ({"hop_length": 200}, {}, "hop_length of flow_config and vocoder_config"),
        ({"frame_rate": 12.3}, {}, "frame_rate . hop_length must be a whole number"),
        ({}, {"upsample_rates": [8]}, "one entry for each stage"),
    ],
)
def test_halves_that_do_not_fit_are_refused(flow, vocoder, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        Glm4VoiceDecoderConfig(flow_config={"num_mel_bins": 80, **flow}, vocoder_config=vocoder)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.tensor([[[64]]]), r"lie in 0..63, got 64"),
        (torch.tensor([[[-1, 3]]]), "only after the end of a row"),
        (torch.zeros(1, 2, 3, dtype=torch.long), "one codebook"),
        (torch.zeros(1, 1, 0, dtype=torch.long), "no codes to decode"),
        (torch.zeros(1, 1, 3), "must be integers"),
    ],
)
def test_what_is_no_code_is_refused(codes, message):
    with pytest.raises(ValueError, match=message):
        tiny_decoder_model().decode(codes)
