"""
What is trained on and what is held out: whole groups of records (a speaker, or a sentence) go to one split, or records
keep that of their source. The result depends on the records and a seed alone, not on the order of preparation.

Depends on groups, shares and names of splits.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

from .schema import SPLITS

SPLIT_BY = ("hash", "speaker", "source")
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development", "eval", "evaluation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
ROOM = 1.5  # a group is not taken if it would make its split this much larger than asked for


def split_of_source(name: str) -> str:
    """
    Map a split of a source to one of `SPLITS`, by the word that its name begins with: `dev`, `test_meeting`,
    `train.clean.100`.

    Args:
        name (`str`): As the source has it.

    Returns:
        `str`: Of `SPLITS`.

    Raises:
        ValueError: If the name begins with no word that is known, or has those of two splits: a guess might train on
        what is held out.
    """
    words = re.split(r"[\W\d_]+", name.strip().casefold())
    found = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    if words[0] not in SPLIT_WORDS or len(found) > 1:
        raise ValueError(
            f"The name of the split {name!r} does not show whether it is trained on: call it train, validation or test "
            f"(or {', '.join(word for word in SPLIT_WORDS if word not in SPLITS)}, and anything after a dot, dash or "
            "underscore), choose one of them with --hub-split, or hold out by --split-by hash."
        )
    return found.pop()


def hash_group(text: str | None, id: str) -> str:
    """
    Give the group of a record that is split by hash: records with the same words stay together, so that no held-out
    sentence was trained on.

    Args:
        text (`str`, *optional*): The words.
        id (`str`): Of the record, which is its group if it has no words.

    Returns:
        `str`: The group.
    """
    words = "".join(character if character.isalnum() else " " for character in (text or "").casefold()).split()
    return " ".join(words) or id


def assign_splits(groups: Sequence[str | None], validation: float, test: float, seed: int = 0) -> list[str]:
    """
    Assign records to splits: first `test`, then `validation`, the rest is `train`.

    Groups are taken in the order of their hashes while there is room. If none fits, the smallest one is taken, as
    long as another one is left to train on.

    Args:
        groups (sequence of `str` or `None`): The group of each record. Records without one are trained on.
        validation (`float`): Share of the records.
        test (`float`): Share of the records.
        seed (`int`, defaults to 0): Chooses.

    Returns:
        `list[str]`: The split of each record.
    """
    sizes = Counter(group for group in groups if group is not None)
    free = sorted(sizes, key=lambda group: hashlib.sha256(f"{seed} {group}".encode()).digest())
    split_of: dict[str | None, str] = {}
    for split, share in (("test", test), ("validation", validation)):
        quota, taken = share * len(groups), 0
        for group in list(free):
            if taken < quota and taken + sizes[group] <= ROOM * quota and len(free) > 1:
                split_of[group] = split
                taken += sizes[group]
                free.remove(group)
        if quota and not taken and len(free) > 1:
            smallest = min(free, key=lambda group: sizes[group])
            split_of[smallest] = split
            free.remove(smallest)
    return [split_of.get(group, SPLITS[0]) for group in groups]
