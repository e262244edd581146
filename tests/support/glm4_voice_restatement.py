"""
The codec of GLM-4-Voice once more: from its description, in float64, one row at a time, with the released names, as
plainly as possible.

Independent of the code under test: it shares no line with it. Where the recorded numbers of the original are at
hand it is held against them; where no recording exists, the code under test is held against it.
"""

import itertools
import math

import numpy as np
import torch
from torch.nn import functional as F
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function


def as_double(weights):
    """A table of weights in float64, weight normalisation multiplied out."""
    table = {name: tensor.double() for name, tensor in weights.items()}
    for name in [name for name in table if name.endswith(".weight_v")]:
        stem, direction = name.removesuffix("_v"), table[name]
        length = torch.stack([row.square().sum().sqrt() for row in direction])[:, None, None]
        table[stem] = table[f"{stem}_g"] * direction / length
    return table


def linear(w, name, x):
    return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def conv(w, name, x, **options):
    return F.conv1d(x, w[f"{name}.weight"], w.get(f"{name}.bias"), **options)


def layer_norm(w, name, x):
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])


def group_norm(w, name, x, groups):
    return F.group_norm(x, groups, w[f"{name}.weight"], w[f"{name}.bias"])


def attend(scores, seen, values):
    """Softmax over what is seen: `(n, m)` scores, `(n, m)` mask, `(m, d)` values."""
    weights = torch.where(seen, scores, -torch.inf).exp()
    return (weights / weights.sum(-1, keepdim=True)) @ values


def own_and_earlier_blocks(count, size):
    """Row i sees column j: the same block of that size, or one before it."""
    return torch.tensor([[column // size <= row // size for column in range(count)] for row in range(count)])


def count_of(w, pattern):
    """How many modules are numbered under a name with `{}` in it."""
    return next(index for index in range(1000) if not any(name.startswith(pattern.format(index)) for name in w))


# ----------------------------------------------------------------------------------------------------- speech tokenizer


def segment_features(audio, num_mel_bins):
    """Whisper's log-mel of audio at 16 kHz that is padded to whole codes, `(mel, frames)`."""
    audio = np.pad(audio.numpy().astype(np.float64), (0, -len(audio) % 1280))
    filters = mel_filter_bank(201, num_mel_bins, 0.0, 8000.0, 16000, norm="slaney", mel_scale="slaney")
    log = spectrogram(audio, window_function(400, "hann"), 400, 160, power=2.0, mel_filters=filters, log_mel="log10")
    log = log[:, :-1].astype(np.float64)
    return torch.from_numpy((np.maximum(log, log.max() - 8.0) + 4.0) / 4.0)


def code_distances(w, audio, heads, block, num_layers, segment_samples):
    """Squared distance of each code of the audio to each entry of the codebook, `(codes, entries)`."""
    if len(audio) > segment_samples:
        parts = [
            code_distances(w, part, heads, block, num_layers, segment_samples) for part in audio.split(segment_samples)
        ]
        return torch.cat(parts)
    x = segment_features(audio, w["conv1.weight"].shape[1])[None]
    x = F.gelu(conv(w, "conv1", F.pad(x, (2, 0))))
    x = F.gelu(conv(w, "conv2", F.pad(x, (2, 0)), stride=2))[0].T
    frames, width = x.shape
    x = x + w["embed_positions.weight"][:frames]
    # A mel frame counts if it begins within the audio, and an encoder frame if its first mel frame does.
    is_audio = torch.arange(frames) * 320 < len(audio)
    seen = own_and_earlier_blocks(frames, block) & is_audio
    for layer in range(num_layers):
        name, size = f"layers.{layer}", width // heads
        normed = layer_norm(w, f"{name}.self_attn_layer_norm", x)
        q, k, v = (linear(w, f"{name}.self_attn.{part}_proj", normed) for part in "qkv")
        parts = [slice(head * size, (head + 1) * size) for head in range(heads)]
        attended = [attend(q[:, part] @ k[:, part].T * size**-0.5, seen, v[:, part]) for part in parts]
        x = x + linear(w, f"{name}.self_attn.out_proj", torch.cat(attended, dim=1))
        inner = F.gelu(linear(w, f"{name}.fc1", layer_norm(w, f"{name}.final_layer_norm", x)))
        x = x + linear(w, f"{name}.fc2", inner)
    means = torch.stack([x[start : start + 4].mean(0) for start in range(0, frames, 4)])
    return torch.cdist(means, w["codebook.weight"]).square()


# ------------------------------------------------------------------------------------------------------------- the flow


def flow_mean(w, codes, heads, block):
    """Encoder and length regulator: `(codes,)` -> `(1, 80, frames)`."""
    x = layer_norm(w, "encoder.embed.out.1", linear(w, "encoder.embed.out.0", w["input_embedding.weight"][codes]))
    count, width = x.shape
    x, size = x * math.sqrt(width), width // heads
    rates = [10000 ** (-2 * pair / width) for pair in range(width // 2)]
    # row count - 1 + d: distance d
    wave = torch.tensor(
        [
            [fun(distance * rate) for rate in rates for fun in (math.sin, math.cos)]
            for distance in range(-count + 1, count)
        ],
        dtype=torch.double,
    )
    seen = own_and_earlier_blocks(count, block)
    row, column = torch.arange(count)[:, None], torch.arange(count)
    for layer in range(count_of(w, "encoder.encoders.{}.")):
        name = f"encoder.encoders.{layer}"
        normed = layer_norm(w, f"{name}.norm_mha", x)
        q, k, v = (linear(w, f"{name}.self_attn.linear_{part}", normed) for part in "qkv")
        p = linear(w, f"{name}.self_attn.linear_pos", wave)
        attended = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            by_content = (q[:, part] + w[f"{name}.self_attn.pos_bias_u"][head]) @ k[:, part].T
            by_distance = (q[:, part] + w[f"{name}.self_attn.pos_bias_v"][head]) @ p[:, part].T
            scores = by_content + by_distance[row, count - 1 + row - column]
            attended.append(attend(scores / math.sqrt(size), seen, v[:, part]))
        x = x + linear(w, f"{name}.self_attn.linear_out", torch.cat(attended, dim=1))
        inner = F.silu(linear(w, f"{name}.feed_forward.w_1", layer_norm(w, f"{name}.norm_ff", x)))
        x = x + linear(w, f"{name}.feed_forward.w_2", inner)
    x = linear(w, "encoder_proj", layer_norm(w, "encoder.after_norm", x))
    frames = int(count / 12.5 * 22050 / 256)
    x = x[[int(frame * count / frames) for frame in range(frames)]].T[None]
    index = 0
    while f"length_regulator.model.{index + 1}.weight" in w:
        x = conv(w, f"length_regulator.model.{index}", x, padding=1)
        x = F.mish(group_norm(w, f"length_regulator.model.{index + 1}", x, 1))
        index += 3
    return conv(w, f"length_regulator.model.{index}", x)


def residual(w, name, x, time):
    inner = F.mish(group_norm(w, f"{name}.block1.block.1", conv(w, f"{name}.block1.block.0", x, padding=1), 8))
    inner = inner + linear(w, f"{name}.mlp.1", F.mish(time))[..., None]
    inner = F.mish(group_norm(w, f"{name}.block2.block.1", conv(w, f"{name}.block2.block.0", inner, padding=1), 8))
    return inner + conv(w, f"{name}.res_conv", x)


def transformer(w, name, x, heads):
    """`(frames, channels)` -> the same, all frames seeing all."""
    normed = layer_norm(w, f"{name}.norm1", x)
    q, k, v = (linear(w, f"{name}.attn1.to_{part}", normed) for part in "qkv")
    size = q.shape[1] // heads
    everything = torch.ones(len(x), len(x), dtype=torch.bool)
    parts = [slice(head * size, (head + 1) * size) for head in range(heads)]
    attended = [attend(q[:, part] @ k[:, part].T / math.sqrt(size), everything, v[:, part]) for part in parts]
    x = x + linear(w, f"{name}.attn1.to_out.0", torch.cat(attended, dim=1))
    return x + linear(
        w, f"{name}.ff.net.2", F.gelu(linear(w, f"{name}.ff.net.0.proj", layer_norm(w, f"{name}.norm3", x)))
    )


def velocity(weights, frames, time, heads):
    """The U-Net: `(1, 320, frames)` at a time of the flow -> `(1, 80, frames)`."""
    w = {name.removeprefix("decoder.estimator."): tensor for name, tensor in weights.items() if "estimator" in name}
    half = frames.shape[1] // 2
    angles = [1000 * time * 10000 ** (-index / (half - 1)) for index in range(half)]
    sinusoids = torch.tensor([[*map(math.sin, angles), *map(math.cos, angles)]], dtype=torch.double)
    embedded = linear(w, "time_mlp.linear_2", F.silu(linear(w, "time_mlp.linear_1", sinusoids)))

    def stage(name, x):
        x = residual(w, f"{name}.0", x, embedded)[0].T
        for index in range(count_of(w, f"{name}.1.{{}}.")):
            x = transformer(w, f"{name}.1.{index}", x, heads)
        return x.T[None]

    outer = stage("down_blocks.0", frames)
    inner = stage("down_blocks.1", conv(w, "down_blocks.0.2.conv", outer, stride=2, padding=1))
    x = conv(w, "down_blocks.1.2", inner, padding=1)
    for index in range(count_of(w, "mid_blocks.{}.")):
        x = stage(f"mid_blocks.{index}", x)
    x = stage("up_blocks.0", torch.cat([x, inner], dim=1))
    x = F.conv_transpose1d(x, w["up_blocks.0.2.conv.weight"], w["up_blocks.0.2.conv.bias"], stride=2, padding=1)
    x = stage("up_blocks.1", torch.cat([x[..., : outer.shape[-1]], outer], dim=1))
    x = conv(w, "up_blocks.1.2", x, padding=1)
    x = F.mish(group_norm(w, "final_block.block.1", conv(w, "final_block.block.0", x, padding=1), 8))
    return conv(w, "final_proj", x)


def flow_mel(w, codes, noise, heads, block, unet_heads, steps=10, scale=0.7, voice=None, prompt_mel=None):
    """
    Codes (a prompt's included) and noise `(1, 80, frames)` -> log-mel frames after those of the prompt, `(1, 80,
    frames)`.
    """
    mean, mel = flow_mean(w, codes, heads, block), noise.double()
    voice = torch.zeros(1, w["spk_embed_affine_layer.weight"].shape[1]) if voice is None else voice
    voice = voice.double() / max(float(voice.double().norm()), 1e-12)
    speaker = linear(w, "spk_embed_affine_layer", voice)[..., None].expand_as(mean)
    given = torch.zeros_like(mean)
    prompted = 0 if prompt_mel is None else prompt_mel.shape[-1]
    if prompted:
        given[..., :prompted] = prompt_mel
    nothing = torch.zeros_like(mean)
    times = [1 - math.cos(math.pi / 2 * step / steps) for step in range(steps + 1)]
    for begin, end in itertools.pairwise(times):
        guided = velocity(w, torch.cat([mel, mean, speaker, given], dim=1), begin, unet_heads)
        free = velocity(w, torch.cat([mel, nothing, nothing, nothing], dim=1), begin, unet_heads)
        mel = mel + (end - begin) * ((1 + scale) * guided - scale * free)
    return mel[..., prompted:]


# ---------------------------------------------------------------------------------------------------------- the vocoder


def pitch(w, mel):
    """`(1, 80, frames)` -> Hz, `(1, frames)`."""
    x = mel.double()
    for index in range(5):
        x = F.elu(conv(w, f"f0_predictor.condnet.{2 * index}", x, padding=1))
    return linear(w, "f0_predictor.classifier", x.transpose(1, 2))[..., 0].abs()


def excitation(w, f0, phase, noise):
    """Pitch in Hz -> the source `(1, 1, samples)`: harmonics with running phases, and noise."""
    f0 = f0.double().repeat_interleave(256, dim=1)[0]
    voiced = (f0 > 10).double()
    harmonics = []
    for order in range(1, noise.shape[1] + 1):
        start = float(phase[0, order - 1]) if order > 1 else 0.0
        sine = 0.1 * torch.sin(2 * math.pi * (f0 * order / 22050).cumsum(0) + start)
        loudness = 0.003 * voiced + 0.1 / 3 * (1 - voiced)
        harmonics.append(sine * voiced + loudness * noise[0, order - 1].double())
    return torch.tanh(linear(w, "m_source.l_linear", torch.stack(harmonics, dim=1))).T[None]


def snake(w, name, x):
    alpha = w[f"{name}.alpha"][:, None]
    return x + torch.sin(alpha * x) ** 2 / (alpha + 1e-9)


def resblock(w, name, x, dilations):
    for index, dilation in enumerate(dilations):
        kernel = w[f"{name}.convs1.{index}.weight"].shape[-1]
        inner = snake(w, f"{name}.activations1.{index}", x)
        inner = conv(w, f"{name}.convs1.{index}", inner, dilation=dilation, padding=dilation * (kernel - 1) // 2)
        inner = snake(w, f"{name}.activations2.{index}", inner)
        x = x + conv(w, f"{name}.convs2.{index}", inner, padding=(kernel - 1) // 2)
    return x


def waveform(w, mel, source, dilations=(1, 3, 5), source_dilations=(1, 3, 5)):
    """Log-mel frames and their source -> samples `(1, samples)`."""
    window = torch.hann_window(16, dtype=torch.double)
    spectrum = torch.stft(source[:, 0].double(), 16, 4, window=window, return_complex=True)
    spectrum = torch.cat([spectrum.real, spectrum.imag], dim=1)
    x = conv(w, "conv_pre", mel.double(), padding=3)
    blocks = count_of(w, "resblocks.{}.") // 2
    for stage in (0, 1):
        up = w[f"ups.{stage}.weight"], w[f"ups.{stage}.bias"]
        x = F.conv_transpose1d(F.leaky_relu(x, 0.1), *up, stride=8, padding=4)
        if stage == 1:
            x = torch.cat([x[..., 1:2], x], dim=-1)  # mirrored on the left
        options = {"stride": 8, "padding": 4} if stage == 0 else {}
        joined = conv(w, f"source_downs.{stage}", spectrum, **options)
        x = x + resblock(w, f"source_resblocks.{stage}", joined, source_dilations)
        each = [resblock(w, f"resblocks.{stage * blocks + index}", x, dilations) for index in range(blocks)]
        x = torch.stack(each).mean(0)
    x = conv(w, "conv_post", F.leaky_relu(x, 0.01), padding=3)
    magnitude, angle = x[:, :9].exp().clamp(max=100), torch.sin(x[:, 9:])
    spectrum = torch.complex(magnitude * torch.cos(angle), magnitude * torch.sin(angle))
    return torch.istft(spectrum, 16, 4, window=window).clamp(-0.99, 0.99)
