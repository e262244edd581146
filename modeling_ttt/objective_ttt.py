"""
The training objective: absorbing diffusion over audio spans, next-token prediction over text, in one joint bound.

Pure functions of token ids, labels and logits. Independent of models and data sets. A *sample* is what the losses are
averaged over: a sequence of the batch or, in packed rows, the positions with the same sample id.

Text-to-Talk (arXiv 2509.20072), section 3: partial-order factorisation, BANOM, PPM. (SST cuts the data before.)
"""

import zlib
from dataclasses import dataclass

import torch
from torch.nn import functional as F

IGNORE_INDEX = -100
MIN_MASK_PROB = 1e-3  # eps: keeps the weight 1 / p finite


@dataclass
class Corruption:
    """
    One draw of the forward process.

    Args:
        input_ids (`torch.LongTensor` of shape `(batch, length)`): Token ids, masked positions replaced by the
            mask.
        labels (`torch.LongTensor` of shape `(batch, length)`): Clean token ids; also -100 on preserved audio.
        audio_mask (`torch.BoolTensor` of shape `(batch, length)`): The masked positions.
        mask_prob (`torch.FloatTensor` of shape `(batch, length)`): Probability p with which the position's sample was
            masked.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    audio_mask: torch.Tensor
    mask_prob: torch.Tensor


def number_samples(
    batch: int, length: int, sample_ids: torch.Tensor | None, device: torch.device
) -> tuple[torch.Tensor, int]:
    """
    Number the samples of a batch.

    Args:
        batch (`int`): Sequences or packed rows.
        length (`int`): Positions of each.
        sample_ids (`torch.LongTensor` of shape `(batch, length)`, *optional*):
            0, 1, ... for the samples of a packed row, negative for padding. `None`: every sequence is a sample.
        device (`torch.device`): Device of the result.

    Returns:
        `tuple`: the samples' numbers `(batch, length)`, consecutive over the whole batch, and how many samples there
        are. Padding gets the number of the batch's first sample; without labels it adds nothing.
    """
    if sample_ids is None:
        return torch.arange(batch, device=device)[:, None].expand(batch, length), batch
    rows = torch.arange(batch, device=device)[:, None].expand_as(sample_ids)
    real = sample_ids >= 0
    key = rows * (sample_ids.max() + 1) + sample_ids
    used, number = torch.unique(key[real], return_inverse=True)
    numbers = torch.zeros_like(sample_ids)
    numbers[real] = number
    return numbers, len(used)


def _rand(count: int, device: torch.device, generator: torch.Generator | None) -> torch.Tensor:
    """Draw `count` uniform numbers on the generator's device: a CPU generator gives the same ones on every device."""
    return torch.rand(count, generator=generator, device=generator.device if generator is not None else device).to(
        device
    )


@dataclass(frozen=True)
class Noise:
    """
    The uniform numbers of the forward process.

    Args:
        samples (`torch.FloatTensor` of shape `(4, samples)`): For each sample its time, the draws of BANOM and PPM,
            and PPM's choice of a span.
        positions (`torch.FloatTensor` of shape `(batch, length)`): A position is masked below its sample's probability.
    """

    samples: torch.Tensor
    positions: torch.Tensor


def fixed_noise(input_ids: torch.Tensor, labels: torch.Tensor, sample_ids: torch.Tensor | None = None) -> Noise:
    """
    Give every sample noise that depends on its labelled token ids alone: the same in any batch, with any padding.

    Args:
        input_ids (`torch.LongTensor` of shape `(batch, length)`): Clean token ids.
        labels (`torch.LongTensor` of shape `(batch, length)`): -100 where nothing is learnt.
        sample_ids (`torch.LongTensor` of shape `(batch, length)`, *optional*): Packed samples, see `number_samples`.

    Returns:
        [`Noise`]: For comparable losses, in evaluation.
    """
    learnt, clean = _learnt_positions(input_ids, labels, sample_ids), input_ids.cpu()
    samples, positions = torch.zeros(4, len(learnt)), torch.ones(input_ids.shape)
    for number, mine in enumerate(learnt):
        generator = torch.Generator().manual_seed(_seed_of(clean[mine]))
        drawn = torch.rand(4 + int(mine.sum()), generator=generator)
        samples[:, number], positions[mine] = drawn[:4], drawn[4:]
    return Noise(samples.to(input_ids.device), positions.to(input_ids.device))


def fixed_seeds(input_ids: torch.Tensor, labels: torch.Tensor, sample_ids: torch.Tensor | None = None) -> list[int]:
    """
    Give every sample a seed that depends on its labelled token ids alone, for noise that is the same in any batch.

    Args:
        input_ids (`torch.LongTensor` of shape `(batch, length)`): Clean token ids.
        labels (`torch.LongTensor` of shape `(batch, length)`): -100 where nothing is learnt.
        sample_ids (`torch.LongTensor` of shape `(batch, length)`, *optional*): Packed samples, see `number_samples`.

    Returns:
        `list[int]`: In the order of `number_samples`.
    """
    clean = input_ids.cpu()
    return [_seed_of(clean[mine]) for mine in _learnt_positions(input_ids, labels, sample_ids)]


def _seed_of(token_ids: torch.Tensor) -> int:
    return zlib.crc32(token_ids.numpy().tobytes())


def random_seeds(sample_ids: torch.Tensor, generator: torch.Generator | None = None) -> list[int]:
    """
    Draw a seed for every sample.

    Args:
        sample_ids (`torch.LongTensor` of shape `(batch, length)`): Packed samples, see `number_samples`.
        generator (`torch.Generator`, *optional*): Source of all randomness; torch's global generator by default.

    Returns:
        `list[int]`: In the order of `number_samples`.
    """
    _, num_samples = number_samples(sample_ids.shape[0], sample_ids.shape[1], sample_ids, sample_ids.device)
    device = generator.device if generator is not None else sample_ids.device
    return torch.randint(2**62, (num_samples,), generator=generator, device=device).tolist()


def _learnt_positions(
    input_ids: torch.Tensor, labels: torch.Tensor, sample_ids: torch.Tensor | None
) -> list[torch.Tensor]:
    """Mark `(batch, length)` the positions of each sample that have a label, on the CPU."""
    numbers, num_samples = number_samples(input_ids.shape[0], input_ids.shape[1], sample_ids, input_ids.device)
    numbers, is_learnt = numbers.cpu(), (labels != IGNORE_INDEX).cpu()
    return [(numbers == number) & is_learnt for number in range(num_samples)]


def corrupt(
    input_ids: torch.Tensor,
    labels: torch.Tensor,
    span_ids: torch.Tensor,
    mask_token_id: int,
    clean_audio_prob: float,
    prefix_preservation_prob: float,
    sample_ids: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
) -> Corruption:
    """
    Draw the forward process for every sample: t ~ U(0, 1), p = (1 - eps) t + eps, and each maskable position is
    masked with probability p.

    Maskable are the audio positions with a label. BANOM keeps all audio of a sample clean with `clean_audio_prob`;
    otherwise PPM keeps the spans before a random one clean with `prefix_preservation_prob`, and removes their labels.

    Args:
        input_ids (`torch.LongTensor` of shape `(batch, length)`): Clean token ids.
        labels (`torch.LongTensor` of shape `(batch, length)`): Clean token ids to learn, -100 elsewhere (prompt,
            padding).
        span_ids (`torch.LongTensor` of shape `(batch, length)`): From `audio_span_ids`.
        mask_token_id (`int`): The mask.
        clean_audio_prob (`float`): BANOM's probability.
        prefix_preservation_prob (`float`): PPM's probability.
        sample_ids (`torch.LongTensor` of shape `(batch, length)`, *optional*): Packed samples, see `number_samples`.
        generator (`torch.Generator`, *optional*): Source of all randomness; torch's global generator, as dropout uses
            it, by default.
        noise ([`Noise`], *optional*): Used instead of drawing.

    Returns:
        [`Corruption`].
    """
    batch, length = input_ids.shape
    numbers, num_samples = number_samples(batch, length, sample_ids, input_ids.device)
    if noise is None:
        coins = _rand(4 * num_samples, input_ids.device, generator).view(4, num_samples)
        noise = Noise(coins, _rand(input_ids.numel(), input_ids.device, generator).view_as(input_ids))
    t, banom_coin, ppm_coin, ppm_draw = noise.samples

    mask_prob = ((1 - MIN_MASK_PROB) * t + MIN_MASK_PROB)[numbers]
    maskable = (span_ids >= 0) & (labels != IGNORE_INDEX)
    has_ppm = (ppm_coin < prefix_preservation_prob)[numbers]
    preserved = has_ppm & _spans_before_a_random_one(span_ids, maskable, numbers, num_samples, ppm_draw)
    is_noised = (banom_coin >= clean_audio_prob)[numbers]
    audio_mask = maskable & ~preserved & is_noised & (noise.positions < mask_prob)
    return Corruption(
        input_ids=input_ids.masked_fill(audio_mask, mask_token_id),
        labels=labels.masked_fill(preserved, IGNORE_INDEX),
        audio_mask=audio_mask,
        mask_prob=mask_prob,
    )


def _spans_before_a_random_one(
    span_ids: torch.Tensor,
    maskable: torch.Tensor,
    numbers: torch.Tensor,
    num_samples: int,
    draw: torch.Tensor,
) -> torch.Tensor:
    """Mark `(batch, length)` the maskable positions before the span that `draw` picks among their sample's."""
    rows = torch.arange(len(span_ids), device=span_ids.device)[:, None]
    spans, rank = torch.unique((rows * (span_ids.max() + 1) + span_ids)[maskable], return_inverse=True)
    owners = torch.zeros_like(spans).scatter_(0, rank, numbers[maskable])  # the sample of each span, ascending
    count = torch.bincount(owners, minlength=num_samples)
    # (num_samples,), as a rank in the batch
    picked = torch.minimum((draw * count).long(), count - 1) + count.cumsum(0) - count
    before = torch.zeros_like(maskable)
    before[maskable] = rank < picked[numbers[maskable]]
    return before


@dataclass
class JointLoss:
    """
    The bound and its two parts.

    Args:
        loss (`torch.FloatTensor` of shape `()`): `text_loss + audio_loss`.
        text_loss (`torch.FloatTensor` of shape `()`): Cross-entropy of the next text token, in nats.
        audio_loss (`torch.FloatTensor` of shape `()`): Weighted cross-entropy at the masked positions, in nats.
    """

    loss: torch.Tensor
    text_loss: torch.Tensor
    audio_loss: torch.Tensor


@dataclass
class Targets:
    """
    What is to be predicted at which positions; the losses need no logits of other positions.

    Args:
        text_labels (`torch.LongTensor` of shape `(num_text,)`): Text token ids, each predicted by the position
            before it.
        audio_labels (`torch.LongTensor` of shape `(num_masked,)`): Masked audio token ids, each predicted by its own
            position.
        is_text (`torch.BoolTensor` of shape `(batch, length)`): Positions of `text_labels`.
        is_masked (`torch.BoolTensor` of shape `(batch, length)`): Positions of `audio_labels`.
        is_audio (`torch.BoolTensor` of shape `(batch, length)`): Audio positions with a label, masked or not.
        mask_prob (`torch.FloatTensor` of shape `(batch, length)`): Probability with which the position's sample was
            masked.
        numbers (`torch.LongTensor` of shape `(batch, length)`): Sample of each position, from `number_samples`.
        num_samples (`int`): How many samples there are.
    """

    text_labels: torch.Tensor
    audio_labels: torch.Tensor
    is_text: torch.Tensor
    is_masked: torch.Tensor
    is_audio: torch.Tensor
    mask_prob: torch.Tensor
    numbers: torch.Tensor
    num_samples: int

    def gather(self, states: torch.Tensor) -> torch.Tensor:
        """
        Take the states that predict the targets: those before text, then those of masked audio.

        Args:
            states (`torch.FloatTensor` of shape `(batch, length, size)`): Hidden states, or logits.

        Returns:
            `torch.FloatTensor` of shape `(num_text + num_masked, size)`.
        """
        return torch.cat([states[:, :-1][self.is_text[:, 1:]], states[self.is_masked]])

    def loss(self, logits: torch.Tensor) -> JointLoss:
        """
        Average the nats over samples, see `joint_loss`.

        Args:
            logits (`torch.FloatTensor` of shape `(num_text + num_masked, vocab_size)`): As `gather` orders them.

        Returns:
            [`JointLoss`].
        """
        nats = F.cross_entropy(logits.float(), torch.cat([self.text_labels, self.audio_labels]), reduction="none")
        text_nats, audio_nats = nats.split([len(self.text_labels), len(self.audio_labels)])
        owners = self.numbers[self.is_text]
        text_loss = _mean_over_samples(text_nats, owners, owners, self.num_samples)
        audio_loss = _mean_over_samples(
            audio_nats / self.mask_prob[self.is_masked],
            self.numbers[self.is_masked],
            self.numbers[self.is_audio],
            self.num_samples,
        )
        return JointLoss(text_loss + audio_loss, text_loss, audio_loss)


def find_targets(
    labels: torch.Tensor,
    audio_mask: torch.Tensor,
    mask_prob: torch.Tensor,
    audio_token_start_id: int,
    sample_ids: torch.Tensor | None = None,
) -> Targets:
    """
    Find the targets of masked sequences.

    Args:
        labels (`torch.LongTensor` of shape `(batch, length)`): Clean token ids, -100 where nothing is learnt.
        audio_mask (`torch.BoolTensor` of shape `(batch, length)`): The masked positions.
        mask_prob (`torch.FloatTensor` of shape `(batch,)` or `(batch, length)`): Probability with which the sample
            was masked.
        audio_token_start_id (`int`): First id of the audio part of the vocabulary.
        sample_ids (`torch.LongTensor` of shape `(batch, length)`, *optional*): Packed samples, see `number_samples`.

    Returns:
        [`Targets`].
    """
    batch, length = labels.shape
    numbers, num_samples = number_samples(batch, length, sample_ids, labels.device)
    has_label = labels != IGNORE_INDEX
    is_audio = labels >= audio_token_start_id
    is_text = has_label & ~is_audio
    is_text[:, 0] = False  # nothing comes before it
    is_text[:, 1:] &= numbers[:, 1:] == numbers[:, :-1]
    is_masked = audio_mask & is_audio
    return Targets(
        text_labels=labels[is_text],
        audio_labels=labels[is_masked],
        is_text=is_text,
        is_masked=is_masked,
        is_audio=is_audio,
        mask_prob=mask_prob[:, None].expand(labels.shape) if mask_prob.ndim == 1 else mask_prob,
        numbers=numbers,
        num_samples=num_samples,
    )


def joint_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    audio_mask: torch.Tensor,
    mask_prob: torch.Tensor,
    audio_token_start_id: int,
    sample_ids: torch.Tensor | None = None,
) -> JointLoss:
    """
    Compute the joint bound of text and audio from the logits of masked sequences.

    Text is predicted by the position before it, and averaged over the sample's text targets. Audio is predicted by
    its own masked position, weighted 1 / p, summed and divided by the sample's maskable positions. Both are then
    averaged over the samples; a sample without targets of one kind adds 0 to its loss.

    Args:
        logits (`torch.FloatTensor` of shape `(batch, length, vocab_size)`): Output of the model for the masked ids.
        labels (`torch.LongTensor` of shape `(batch, length)`): Clean token ids, -100 where nothing is learnt.
        audio_mask (`torch.BoolTensor` of shape `(batch, length)`): The masked positions.
        mask_prob (`torch.FloatTensor` of shape `(batch,)` or `(batch, length)`): Probability with which the sample
            was masked.
        audio_token_start_id (`int`): First id of the audio part of the vocabulary.
        sample_ids (`torch.LongTensor` of shape `(batch, length)`, *optional*): Packed samples, see `number_samples`.

    Returns:
        [`JointLoss`].
    """
    targets = find_targets(labels, audio_mask, mask_prob, audio_token_start_id, sample_ids)
    return targets.loss(targets.gather(logits))


def _mean_over_samples(
    values: torch.Tensor, owners: torch.Tensor, counted: torch.Tensor, num_samples: int
) -> torch.Tensor:
    """Sum the values of each sample, divide by how often the sample occurs in `counted`, average over all samples."""
    sums = values.new_zeros(num_samples).index_add(0, owners, values)
    return (sums / torch.bincount(counted, minlength=num_samples).clamp(min=1)).mean()
