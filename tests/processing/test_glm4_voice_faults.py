"""
The original driver has twelve known faults. Each has a test here that fails where the fault is.

In the order of their list: dropout while speaking, a fade that attenuates, too little context, phases that start
again, lost frames, a lost tail, a global seed, noise that moves, batches that leak, tensors of the wrong mode and
device, cost that grows, and slow or coarse parts.
"""

import numpy as np
import pytest
import torch
from glm4_voice_fixtures import codes_of, tiny_decoder_model

from processing_ttt.glm4_voice_decoder import DecodingNoise
from processing_ttt.glm4_voice_streaming import Glm4VoiceDecoderStream, VocoderStream

HOP = 256


def streamed(model, codes, sizes, **options):
    """The audio of codes that come in pieces of these sizes."""
    stream, pieces = Glm4VoiceDecoderStream(model, **options), []
    for piece in codes[0, 0].split(sizes):
        pieces.append(stream.push(piece))
    return torch.from_numpy(np.concatenate([*pieces, stream.finish()]))


def vocoded(model, mel, sizes):
    """The audio of frames that come in pieces of these sizes, each piece's length in frames beside it."""
    stream = VocoderStream(model.vocoder, DecodingNoise(model.config))
    parts = mel.split(sizes, dim=-1)
    with torch.no_grad():
        return [stream.push(part, last=index == len(parts) - 1) for index, part in enumerate(parts)]


def test_1_speaking_in_training_mode_is_speaking():
    model, codes = tiny_decoder_model(), codes_of(9)
    spoken = model.decode(codes).mel
    assert torch.equal(model.train().decode(codes).mel, spoken)
    assert not [module for module in model.modules() if isinstance(module, torch.nn.Dropout)]


def test_2_frames_that_agree_are_not_changed_by_fading(monkeypatch):
    model, frames = tiny_decoder_model(), []
    monkeypatch.setattr(model.flow, "sample", lambda mean, *args, **kwargs: torch.full_like(mean, -6.0))
    monkeypatch.setattr(VocoderStream, "push", lambda self, mel, last=False: frames.append(mel) or torch.zeros(0))
    streamed(model, codes_of(40), 8)
    together = torch.cat(frames, dim=-1)
    assert together.shape[-1] == 40 * 441 // 64
    torch.testing.assert_close(together, torch.full_like(together, -6.0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("sizes", [1, 7, [3, 1, 60, 26], [89, 1], [1, 89]])
def test_3_and_4_frames_in_pieces_decode_as_the_frames_at_once_with_phases_carried_on(sizes):
    model = tiny_decoder_model()
    mel = torch.randn(1, 8, 90, generator=torch.Generator().manual_seed(0))
    noise = DecodingNoise(model.config)
    with torch.no_grad():
        pitch = model.vocoder.f0(mel)
        whole = model.vocoder(mel, noise.phase[None], noise.source(90)[None])[0]
    assert (pitch > model.vocoder.config.voiced_threshold).float().mean() > 0.5
    pieces = torch.cat(vocoded(model, mel, sizes))
    assert whole.std() > 0.01
    torch.testing.assert_close(pieces, whole, atol=2e-5, rtol=0)


@pytest.mark.parametrize("sizes", [1, 4, 10, 26, [26, 26, 11], [5, 58]])
def test_5_and_6_no_frame_and_no_tail_is_lost(sizes):
    assert len(streamed(tiny_decoder_model(), codes_of(63), sizes)) == 63 * 441 // 64 * HOP


def test_6_a_reply_that_ends_with_nothing_pending_still_has_its_tail():
    model, codes = tiny_decoder_model(), codes_of(8)  # two whole blocks: all went through the flow
    stream = Glm4VoiceDecoderStream(model)
    first, tail = stream.push(codes[0, 0]), stream.finish()
    assert len(tail) > 0
    together = torch.from_numpy(np.concatenate([first, tail]))
    torch.testing.assert_close(together, model.decode(codes).audio_values[0, 0], atol=2e-5, rtol=0)
    assert len(stream.finish()) == 0
    with pytest.raises(RuntimeError, match="finished: begin a new one"):
        stream.push([1])
    assert len(Glm4VoiceDecoderStream(model).finish()) == 0


def test_7_a_caller_keeps_the_random_state():
    model = tiny_decoder_model()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model.decode(codes_of(9))
    streamed(model, codes_of(9), 4)
    assert torch.equal(torch.rand(3), expected)


def test_8_a_frame_starts_from_the_same_noise_however_long_the_reply_is():
    config = tiny_decoder_model().config
    short, long, pieces = (DecodingNoise(config) for _ in range(3))
    mel, source = long.mel(40), long.source(40)
    assert torch.equal(short.mel(17), mel[:, :17])
    assert torch.equal(short.source(3), source[:, : 3 * HOP])
    assert torch.equal(torch.cat([pieces.mel(count) for count in (1, 30, 9)], dim=1), mel)
    assert torch.equal(torch.cat([pieces.source(count) for count in (39, 1)], dim=1), source)
    assert abs(float(mel.mean())) < 0.2 and abs(float(source.std()) - 1) < 0.02


def test_9_a_row_of_a_batch_waveforms_as_it_does_alone():
    model, rows = tiny_decoder_model(), [codes_of(count, seed) for seed, count in enumerate((21, 4, 13, 1, 21))]
    batch = torch.full((5, 1, 21), -1)
    for row, codes in enumerate(rows):
        batch[row, :, : codes.shape[-1]] = codes
    together = model.decode(batch)
    for row, codes in enumerate(rows):
        alone = model.decode(codes)
        frames = alone.mel.shape[-1]
        torch.testing.assert_close(together.mel[row, :, :frames], alone.mel[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(
            together.audio_values[row, :, : frames * HOP], alone.audio_values[0], atol=1e-4, rtol=0
        )
        assert not together.audio_values[row, :, frames * HOP :].any() and not together.mel[row, :, frames:].any()


def test_10_streams_do_not_mind_under_which_mode_they_are_called():
    model, codes = tiny_decoder_model(), codes_of(24)
    stream, pieces = Glm4VoiceDecoderStream(model), []
    for index, piece in enumerate(codes[0, 0].split(4)):
        with torch.inference_mode(index % 2 == 0):
            pieces.append(stream.push(piece))
    pieces.append(stream.finish())
    assert np.array_equal(np.concatenate(pieces), streamed(model, codes, 4).numpy())


def test_10_everything_is_made_where_the_model_is():
    model = tiny_decoder_model().to("meta")
    made = model.flow.mean(torch.zeros(2, 8, dtype=torch.long, device="meta"), [8, 5])
    assert made.device.type == "meta"
    assert model.flow.sample(made, [55, 34], made).device.type == "meta"


def test_11_a_piece_costs_the_same_however_long_the_reply_has_become():
    model, codes = tiny_decoder_model(), codes_of(400)
    windows, means, vocoded_frames = [], [], []
    model.flow.estimator.register_forward_hook(lambda module, inputs, output: windows.append(output.shape[-1]))
    model.flow.encoder.register_forward_hook(lambda module, inputs, output: means.append(output.shape[1]))
    model.vocoder.conv_pre.register_forward_hook(lambda module, inputs, output: vocoded_frames.append(output.shape[-1]))
    streamed(model, codes, 8, num_inference_steps=1)
    assert len(windows) == 50
    assert max(windows) <= 8 * 441 // 64 + 1 + 10 + 25  # new frames, those that waited, the prompt
    assert max(vocoded_frames) <= 8 * 441 // 64 + 1 + 2 * model.vocoder.config.context_frames + 1
    assert max(means) <= 2 * model.config.flow_config.grid_period + 8 < len(codes[0, 0])


def test_11_codes_that_are_not_whole_blocks_wait_so_that_nothing_changes_afterwards():
    model, codes = tiny_decoder_model(), codes_of(30)
    in_blocks = streamed(model, codes, 4)
    assert torch.equal(streamed(model, codes, 1), in_blocks)
    stream = Glm4VoiceDecoderStream(model)
    assert len(stream.push(codes[0, 0, :3])) == 0


def test_12_the_phase_is_exact_after_a_minute():
    model = tiny_decoder_model(vocoder={"num_harmonics": 8, "noise_std": 0.0})
    frames, source = 60 * 22050 // HOP, model.vocoder.source
    pitch = torch.full((1, frames), 219.97)
    with torch.no_grad():
        source.linear.weight.copy_(torch.eye(9)[8:])  # the ninth harmonic alone
        source.linear.bias.zero_()
        silence = torch.zeros(1, 9, frames * HOP)
        made, _ = source(pitch, torch.zeros(1, 9, 1), silence)
        halves, cycles = [], None
        for part in pitch.split(frames // 2 + 1, dim=1):
            half, cycles = source(part, torch.zeros(1, 9, 1), silence[..., : part.shape[1] * HOP], cycles)
            halves.append(half)
    samples = np.arange(1, frames * HOP + 1)
    expected = np.tanh(0.1 * np.sin(2 * np.pi * np.float64(pitch[0, 0].item()) * 9 * samples / 22050))
    assert np.abs(made[0, 0].numpy() - expected).max() < 1e-5
    assert np.abs(torch.cat(halves, dim=-1)[0, 0].numpy() - expected).max() < 1e-5


def test_12_nothing_is_printed_and_no_weight_is_normalised_again(capfd):
    model = tiny_decoder_model()
    model.decode(codes_of(9))
    streamed(model, codes_of(9), 4)
    assert capfd.readouterr() == ("", "")
    assert not [name for name in model.state_dict() if "weight_g" in name or "original0" in name]


def test_12_one_mask_serves_all_layers():
    model, masks = tiny_decoder_model(), []
    for layer in model.flow.encoder.layers:
        layer.register_forward_pre_hook(lambda module, inputs: masks.append(inputs[2]))
    model.decode(codes_of(9))
    assert len(masks) == 2
    assert masks[0] is masks[1]
