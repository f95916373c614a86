"""Write sentences.jsonl: requests of varied length from the help texts that ship with Python (`pydoc_data.topics`).

    python make_sentences.py

The texts are part of CPython's documentation (Python Software Foundation Licence). The choice is seeded, so that the
same Python writes the same file; the committed one was written by Python 3.11.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from pydoc_data.topics import topics

COUNT = 600
MAX_WORDS = 100


def sentences() -> list[str]:
    """Sentences of prose, without code, tables, headings and cross references."""
    found: dict[str, None] = {}
    for _, text in sorted(topics.items()):
        for paragraph in re.split(r"\n\s*\n", text):
            if paragraph.startswith((" ", "\t", "*", "+", "|", "-")) or "::=" in paragraph or ">>>" in paragraph:
                continue
            prose = " ".join(paragraph.replace('"', "").replace("*", "").split())
            for sentence in re.split(r"(?<=[.!?]) (?=[A-Z])", prose):
                words = sentence.split()
                if 4 <= len(words) <= MAX_WORDS and sentence[0].isupper() and sentence.endswith((".", "?", "!")):
                    found[sentence] = None
    return list(found)


def requests() -> list[str]:
    """Mostly single sentences; every sixth request is a passage of several, up to 100 words."""
    generator = random.Random(20)
    alone = sentences()
    generator.shuffle(alone)
    taken = iter(alone)
    made: list[str] = []
    while len(made) < COUNT:
        text = next(taken)
        while len(made) % 6 == 0 and len(text.split()) < 60:
            text = f"{text} {next(taken)}"
        if len(text.split()) <= MAX_WORDS:
            made.append(text)
    return made


if __name__ == "__main__":
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in requests()]
    Path(__file__).with_name("sentences.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
