"""
What was prepared and what was left out: `report.json` to be read by programs, `report.md` by people, `skipped.jsonl`
with every record that was left out.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .schema import REPORT_FILE, SPLITS, replace_text

EXAMPLES_PER_REASON = 20
READABLE_REPORT_FILE = "report.md"
SKIPPED_FILE = "skipped.jsonl"


def write_report(
    folder: Path,
    source: str,
    counts: dict[str, int],
    hours: dict[str, float],
    problems: Sequence[dict[str, str]],
    notes: Sequence[str],
) -> dict[str, Any]:
    """
    Write the three files.

    Args:
        folder (`Path`): Where they go.
        source (`str`): Name of the data.
        counts (`dict[str, int]`): Records by split.
        hours (`dict[str, float]`): Hours by split.
        problems (sequence of `dict`): `id`, `reason`, `detail` of what was left out.
        notes (sequence of `str`): Further remarks for the reader.

    Returns:
        `dict`: The content of `report.json`.
    """
    reasons = Counter(problem["reason"] for problem in problems)
    examples: dict[str, list[dict[str, str]]] = {reason: [] for reason, _ in reasons.most_common()}
    for problem in problems:
        if len(examples[problem["reason"]]) < EXAMPLES_PER_REASON:
            examples[problem["reason"]].append({"id": problem["id"], "detail": problem["detail"]})
    report = {
        "source": source,
        "found": sum(counts.values()) + len(problems),
        "prepared": sum(counts.values()),
        "rows": counts,
        "hours": {split: round(value, 4) for split, value in hours.items()},
        "skipped": dict(reasons.most_common()),
        "examples": examples,
        "notes": list(notes),
    }
    replace_text(folder / SKIPPED_FILE, "".join(json.dumps(problem, ensure_ascii=False) + "\n" for problem in problems))
    replace_text(folder / READABLE_REPORT_FILE, readable(report))
    replace_text(folder / REPORT_FILE, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return report


def readable(report: dict[str, Any]) -> str:
    """
    Write a report as Markdown.

    Args:
        report (`dict`): What `report.json` holds.

    Returns:
        `str`
    """
    lines = [f"# {report['source']}", "", f"{report['prepared']} of {report['found']} records were prepared.", ""]
    lines += ["| split | records | hours |", "|---|---|---|"]
    lines += [f"| {split} | {report['rows'][split]} | {report['hours'][split]:.2f} |" for split in SPLITS]
    lines += ["", *(f"- {note}" for note in report["notes"])]
    if report["skipped"]:
        lines += ["", f"## Left out (all of them in {SKIPPED_FILE})", "", "| reason | records |", "|---|---|"]
        lines += [f"| {reason} | {count} |" for reason, count in report["skipped"].items()]
    for reason, examples in report["examples"].items():
        lines += ["", f"### {reason}", ""]
        lines += [" ".join(f"- `{example['id']}`: {example['detail']}".split()) for example in examples]
    return "\n".join(lines) + "\n"
