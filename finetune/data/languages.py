"""Tags of languages, as data sets and prompts write them: `it`, `pt-BR`, `zh_TW`."""

from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE


def base_language(tag: str | None) -> str:
    """
    Give the language of a tag, without region and script.

    Args:
        tag (`str`, *optional*): As `en`, `en_US` or `zh-Hant-TW`.

    Returns:
        `str`: As `en`, in lower case; empty if there is no tag.
    """
    return (tag or "").strip().lower().replace("_", "-").partition("-")[0]


def language_tag(language: str | None) -> str | None:
    """
    Give the tag of a language that is named in English, as data sets do; a tag stays what it is.

    Args:
        language (`str`, *optional*): `Italian`, or `it`.

    Returns:
        `str`: `it`; what is not known, as it was.
    """
    return TO_LANGUAGE_CODE.get((language or "").strip().lower(), language)
