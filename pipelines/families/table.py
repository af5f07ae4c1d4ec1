"""Which words work on which family, said by the code itself; `docs/families.md` shows it."""

from __future__ import annotations

from pipelines.families import families
from pipelines.families.base import NO_CONTROL, NO_IMAGE_PROMPT, NO_LOOK

WORDS = (
    "harmonize",
    "attend_inside",
    "attend_outside",
    "attend_both_ways",
    "spread",
    "avoids",
    "negative_prompt",
    "negative",
    "keep_shape",
    "look",
    "image_prompt",
    "vary",
    "cads",
    "guidance_interval",
)


def refusal(family: str, word: str) -> str | None:
    """Why a family refuses a word, or None where it works."""
    if word == "keep_shape" and not families()[family].controlled:
        return NO_CONTROL
    if word == "look" and not families()[family].encoders:
        return NO_LOOK
    if word == "image_prompt" and not families()[family].image_prompts:
        return NO_IMAGE_PROMPT
    return families()[family].refused.get(word)


def table() -> str:
    """A Markdown table: families down, words across, and the reasons below it."""
    known = families()
    lines = ["| family | " + " | ".join(f"`{word}`" for word in WORDS) + " |"]
    lines.append("|---" * (len(WORDS) + 1) + "|")
    reasons: dict[str, list[str]] = {}
    for name, kind in known.items():
        cells = []
        for word in WORDS:
            why = refusal(name, word)
            cells.append("yes" if why is None else "refused")
            if why is not None:
                reasons.setdefault(f"`{word}`: {why}", []).append(name)
        lines.append(f"| {name} ({kind.models}) | " + " | ".join(cells) + " |")
    lines += ["", "Refused, by name, when a collage asks for it:", ""]
    every = list(known)
    lines += [
        f"- {reason} ({'all' if names == every else ', '.join(names)})" for reason, names in reasons.items()
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
