"""
The commands that make checkpoints: `ttt convert` (a released one), `ttt convert-codec` (its codec) and `ttt init` (a
new one from a language model).

Joins the model half, the processor half and a model card in one folder. Depends on options, folders and messages;
weights and tokens are changed by the packages, which are imported when a command runs.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .checks import check_hub, check_new_folder, looks_like_path
from .options import check_seed, interruptible, show_progress, status

if TYPE_CHECKING:
    from huggingface_hub import ModelCard
    from transformers import PreTrainedTokenizerBase

    from processing_ttt import TttVocabulary

RELEASED_CODEBOOK_SIZE = 16384  # GLM-4-Voice's

Output = Annotated[Path, typer.Argument(help="New or empty folder to write.")]
Codec = Annotated[
    str | None,
    typer.Option(
        help="Folder of the codec, to be copied along, or its Hub id. Without it, put the codec into OUTPUT/codec.",
        show_default=False,
    ),
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit on the Hub.", show_default=False)]


@interruptible("Delete what was written of the new folder; then the same command begins again.")
def convert(
    source: Annotated[str, typer.Argument(help="Folder or Hub id of a released checkpoint.")],
    output: Output,
    codec: Codec = None,
    revision: Revision = None,
) -> None:
    """Turn a released Text-to-Talk checkpoint into a folder that the Auto classes load."""
    check_new_folder(output)
    _check_source(source)
    check_hub([source])
    status("Loading PyTorch ...")
    show_progress()
    from transformers import AutoTokenizer

    from modeling_ttt import convert_released_model, model_card
    from modeling_ttt.convert_ttt_to_hf import SOURCE_PATTERNS, read_released_config
    from processing_ttt import RELEASED_SYSTEM_PROMPTS, TttProcessor
    from processing_ttt.loading_faults_ttt import faults_named
    from processing_ttt.vocabulary_ttt import END_OF_MESSAGE, TttVocabulary

    folder = _download(source, revision, SOURCE_PATTERNS)
    with faults_named(f"the configuration of {source!r}"):
        config = read_released_config(folder)
    with faults_named(f"the tokenizer of {source!r}"):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    tokenizer.eos_token, tokenizer.chat_template = END_OF_MESSAGE, None  # the processor brings the template
    vocabulary = TttVocabulary.from_tokenizer(tokenizer)
    _check_tokens(tokenizer, vocabulary)
    processor = TttProcessor(tokenizer, **_codec_option(codec), system_prompts=RELEASED_SYSTEM_PROMPTS)
    if codec is not None:
        processor.codec_config  # noqa: B018 - reading it checks that the codec is there and fits
    origin = _card_of(folder)
    config.pad_token_id = vocabulary.pad_token_id  # where the tokenizer has none, the end of a reply fills batches
    with faults_named(repr(source)):
        convert_released_model(folder, output, config)
    processor.save_pretrained(output)
    card = model_card(
        output.name,
        config,
        language=origin.data.get("language") if origin else None,
        license=origin.data.get("license") if origin else None,
        base_model=None if os.path.isdir(source) else source,
        about=f"Converted by `ttt convert` from `{Path(source).name if os.path.isdir(source) else source}`; the "
        "weights are the same. The codec is a model of its own, under its own licence.",
    )
    card.save(output / "README.md")
    _report(
        output, vocabulary, "" if codec else f", once a codec is in {output / 'codec'}: `ttt convert-codec` makes one"
    )


@interruptible("Delete what was written of the new folder; then the same command begins again.")
def init(
    language_model: Annotated[str, typer.Argument(help="Folder or Hub id of a causal language model.")],
    output: Output,
    codec: Codec = None,
    audio_codebook_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of codes; by default the codec's, or GLM-4-Voice's 16384.", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(callback=check_seed, help="Seed of the new embedding rows.")] = 0,
    revision: Revision = None,
) -> None:
    """Start a new Text-to-Talk model from a causal language model, ready for training."""
    check_new_folder(output)
    _check_source(language_model, may_lack_owner=True)
    check_hub([language_model])
    status("Loading PyTorch ...")
    show_progress()
    import torch
    from transformers import AutoTokenizer

    from modeling_ttt import TttForConditionalGeneration, model_card
    from processing_ttt import TttProcessor
    from processing_ttt.codec_loading_ttt import CodecHandle
    from processing_ttt.loading_faults_ttt import check_weight_files, faults_named

    check_weight_files(language_model)
    if audio_codebook_size is None:
        audio_codebook_size = RELEASED_CODEBOOK_SIZE if codec is None else CodecHandle(codec).config.codebook_size
    with faults_named(f"the tokenizer of {language_model!r}"):
        tokenizer = AutoTokenizer.from_pretrained(language_model, revision=revision, trust_remote_code=False)
    with faults_named(repr(language_model)):
        model = TttForConditionalGeneration.from_language_model(
            language_model,
            audio_codebook_size,
            tokenizer=tokenizer,
            generator=torch.Generator().manual_seed(seed),
            revision=revision,
        )
    tokenizer.chat_template = None  # the processor brings one
    processor = TttProcessor(tokenizer, **_codec_option(codec))
    if codec is not None:
        processor.codec_config  # noqa: B018 - reading it checks that the codec fits
    model.save_pretrained(output, max_shard_size="2GB")
    processor.save_pretrained(output)
    card = model_card(
        output.name,
        model.config,
        base_model=None if os.path.isdir(language_model) else language_model,
        about="Started by `ttt init`: it writes as its language model did, and is not trained on audio yet.",
    )
    card.save(output / "README.md")
    _report(output, processor.vocabulary, ", once it is trained: it only writes so far")


@interruptible("Delete what was written of the new folder; then the same command begins again.")
def convert_codec(
    source: Annotated[
        str,
        typer.Argument(help="Folder with glm-4-voice-tokenizer and glm-4-voice-decoder, or their owner on the Hub."),
    ],
    output: Output,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Folder or Hub id of the speech tokenizer, if it is elsewhere.", show_default=False),
    ] = None,
    decoder: Annotated[
        str | None, typer.Option(help="Folder or Hub id of the decoder, if it is elsewhere.", show_default=False)
    ] = None,
) -> None:
    """Turn the released speech tokenizer and decoder of GLM-4-Voice into one codec."""
    check_new_folder(output)
    from processing_ttt import glm4_voice_convert as released
    from processing_ttt.glm4_voice_licence import LICENCE_NOTICE

    halves = tokenizer or f"{source}/{released.TOKENIZER_NAME}", decoder or f"{source}/{released.DECODER_NAME}"
    for given, folder in zip((tokenizer, decoder), halves, strict=True):
        if given is None and os.path.isdir(source) and not os.path.isdir(folder):
            raise FileNotFoundError(
                f"There is no folder {folder!r}: give the folder that holds {released.TOKENIZER_NAME} and "
                f"{released.DECODER_NAME}, or each of the two by `--tokenizer` and `--decoder`."
            )
    check_hub(halves)
    typer.echo(LICENCE_NOTICE)
    released.convert_codec(*halves, output)
    typer.echo(f"Written to {output}: `ttt convert SOURCE OUTPUT --codec {output}`")


def _check_source(source: str, may_lack_owner: bool = False) -> None:
    has_owner = source.count("/") == 1
    if not os.path.isdir(source) and (looks_like_path(source) or not (has_owner or may_lack_owner)):
        raise FileNotFoundError(f"There is no folder {source!r}, and it is no Hub id (owner/name) either.")


def _download(source: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
    """The folder itself, or the local copy of what is needed of a Hub repository."""
    from huggingface_hub import snapshot_download

    if os.path.isdir(source):
        return Path(source)
    return Path(snapshot_download(source, revision=revision, allow_patterns=[*patterns, "README.md"]))


def _codec_option(codec: str | None) -> dict[str, Any]:
    return {} if codec is None else {"codec_name_or_path": codec}


def _check_tokens(tokenizer: "PreTrainedTokenizerBase", vocabulary: "TttVocabulary") -> None:
    """Refuse a tokenizer that has a marker or a code as a word but would split it."""
    for token, token_id in _tokens(vocabulary).items():
        encoded = tokenizer.encode(token, add_special_tokens=False)
        if encoded != [token_id]:
            raise ValueError(
                f"The tokenizer writes {token} as {encoded} and not as its id {token_id}: added tokens are missing "
                "from "
                "its files (tokenizer.json, or added_tokens.json and tokenizer_config.json)."
            )


def _tokens(vocabulary: "TttVocabulary") -> dict[str, int]:
    """Every marker and code with its id."""
    from processing_ttt import vocabulary_ttt as names

    codes = range(vocabulary.codebook_size)
    return {
        names.BEGIN_OF_MESSAGE: vocabulary.begin_message_token_id,
        names.END_OF_MESSAGE: vocabulary.eos_token_id,
        names.BEGIN_OF_AUDIO: vocabulary.begin_audio_token_id,
        names.END_OF_AUDIO: vocabulary.end_user_audio_token_id,
        names.BEGIN_OF_LAST_AUDIO: vocabulary.begin_last_audio_token_id,
        names.AUDIO_PLACEHOLDER: vocabulary.audio_token_start_id,
        **{names.AUDIO_CODE.format(code): vocabulary.audio_code_offset + code for code in codes},
        names.MASK: vocabulary.mask_token_id,
        names.END_OF_SPAN: vocabulary.end_audio_token_id,
        names.END_OF_LAST_SPAN: vocabulary.end_last_audio_token_id,
    }


def _card_of(folder: Path) -> "ModelCard | None":
    from huggingface_hub import ModelCard

    return (
        ModelCard.load(folder / "README.md", ignore_metadata_errors=True) if (folder / "README.md").is_file() else None
    )


def _report(output: Path, vocabulary: "TttVocabulary", condition: str) -> None:
    for token, token_id in _tokens(vocabulary).items():
        if not vocabulary.is_code(token_id):
            typer.echo(f"{token:<28} {token_id}")
    first, size = vocabulary.audio_code_offset, vocabulary.codebook_size
    typer.echo(f"{f'{size} codes':<28} {first} to {first + size - 1}")
    typer.echo(f"Written to {output}: `ttt talk --model {output}`{condition}")
