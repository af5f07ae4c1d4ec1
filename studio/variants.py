"""Prompt variants: ``{red|blue|green}`` in a prompt is another word in each image of a batch.

A rival of NegToMe's spread, and one that goes with it: what a prompt leaves open is said instead, differently for each
image (`studio.opening` writes the alternatives). Ours in how it counts: an image's number is its seed, so image k of a
batch says what it says alone, and successive images go through all combinations before one comes again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipelines.errors import PhraseError
from studio.document import Collage

GROUP = re.compile(r"\{([^{}]*)\}")
"""Alternatives between braces."""
CHOICE = re.compile(r"\{[^{}]*\|[^{}]*\}")
"""Braces that leave something to choose; others may be text like any other."""


def alternatives(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The groups of all ``texts`` in the order in which they first stand there, each with its options.

    An option may be empty and loses the spaces around it. Groups of the same text are one: what two of them say in an
    image is the same. Raises `PhraseError` for a brace without its other half and for braces within braces.
    """
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        rest = GROUP.sub("", text)
        for brace in "{}":
            if brace in rest:
                raise PhraseError(
                    f"variants: {brace!r} in {text[:60]!r} has no other half, or stands inside other braces; "
                    "write {red|blue}, or switch variants off to keep braces as they are."
                )
        for group in GROUP.findall(text):
            found[group] = tuple(option.strip() for option in group.split("|"))
    return found


def variant(texts: Sequence[str], number: int) -> tuple[str, ...]:
    """The ``texts`` of the image with this ``number`` (its seed, 0 or more): one option in place of each group.

    The number is counted in the mixed radix of the groups' sizes. The group with most options, the first of several,
    takes its lowest digit, so it changes from image to image and has no option twice before it has had all; each other
    one adds the choice of the group before to its own digit, so that it mostly changes too, and any run of as many
    images as there are combinations has each combination once. Text without groups stays as it is. Errors as in
    `alternatives`.
    """
    chosen: dict[str, str] = {}
    before = 0
    for group, options in sorted(alternatives(texts).items(), key=lambda item: -len(item[1])):
        number, digit = divmod(number, len(options))
        before = (digit + before) % len(options)
        chosen[group] = options[before]
    if not chosen:
        return tuple(texts)
    return tuple(" ".join(GROUP.sub(lambda found: chosen[found[1]], text).split()) for text in texts)


def combinations(texts: Sequence[str]) -> int:
    """How many different variants there are."""
    count = 1
    for options in alternatives(texts).values():
        count *= len(options)
    return count


def texts_of(collage: Collage) -> tuple[str, ...]:
    """All that an image is told: the prompt and the words of the layers that show."""
    return (collage.prompt, *(layer.prompt for layer in collage.layers if layer.visible))
