"""How the large world was chosen: classes with art in at least three of four styles, by rule, written to
``large.json``.

``python -m pipelines.embedded.training.widen --art NODE_MODULES_DIR`` reads the iconify sets and
``emojibase-data`` and rewrites ``large.json`` beside this file. The rule keeps things one can put into a
picture and leaves out faces, hearts, hands, signs, clocks, flags, money, papers, near doubles, and drawings
that hold a whole scene of their own.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from pipelines.embedded.training.art import SETS, IconSet, load_sets
from pipelines.embedded.training.world import TONES, WORLDS

__all__ = ["EXTRA_ROLES", "choose", "main"]

KEPT_SUBGROUPS = [
    "animal-mammal",
    "animal-bird",
    "animal-amphibian",
    "animal-reptile",
    "animal-marine",
    "animal-bug",
    "plant-flower",
    "plant-other",
    "food-fruit",
    "food-vegetable",
    "food-prepared",
    "food-asian",
    "food-sweet",
    "drink",
    "dishware",
    "place-building",
    "place-other",
    "transport-ground",
    "transport-water",
    "transport-air",
    "hotel",
    "time",
    "sky-weather",
    "event",
    "award-medal",
    "sport",
    "game",
    "arts-crafts",
    "clothing",
    "sound",
    "music",
    "musical-instrument",
    "phone",
    "computer",
    "light-video",
    "book-paper",
    "mail",
    "writing",
    "office",
    "lock",
    "tool",
    "science",
    "medical",
    "household",
    "face-costume",
]

EXCLUDED = re.compile(
    r".*-face$|.*(?:oclock|thirty|timer|mantelpiece|button|banknote|moon|sun-|cloud|speaker|musical-(?:note|score))"
    r"|oncoming-.*|.*facing.*|.*(?:sign|sunrise|sunset|cityscape|night|bridge|foggy|mailbox|medal|place-|chart|card)"
    r"|(?:pile-of-poo|ogre|goblin|alien-monster|guide-dog|service-dog|black-cat|two-hump-camel|ewe|ox|mouse-trap|microbe"
    r"|paw-prints|feather|wing|nest-with-eggs|empty-nest|spider-web|herb|seedling|leaf-fluttering-in-wind|fallen-leaf"
    r"|wilted-flower|white-flower|blossom|rosette|sheaf-of-rice|four-leaf-clover|green-apple|lime|tangerine|beans|butter"
    r"|salt|flatbread|falafel|stuffed-flatbread|tamale|cooking|fondue|oden|dango|moon-cake|fish-cake-with-swirl|custard"
    r"|rice-cracker|roasted-sweet-potato|bento-box|pouring-liquid|beverage-box|mate|ice|clinking-.*|fork-and-knife.*"
    r"|building-construction|brick|rock|wood|houses|derelict-house|house-with-garden|japanese-.*|hospital|bank|hotel"
    r"|love-hotel|convenience-store|department-store|wedding|stadium|classical-building|hot-springs|barber-pole|tent"
    r"|railway-.*|high-speed-train|train|metro|light-rail|station|tram|monorail|mountain-.*|trolleybus|minibus|bus-stop"
    r"|motorway|oil-drum|wheel|police-car-light|.*traffic-light|construction|sport-utility-vehicle|articulated-lorry"
    r"|small-airplane|airplane-.*|seat|suspension-railway|aerial-tramway|motor-boat|passenger-ship|ship|bellhop-bell"
    r"|milky-way|shooting-star|cyclone|fog|tornado|droplet|water-wave|high-voltage|comet|snowflake|umbrella-.*"
    r"|closed-umbrella|snowman-without-snow|glowing-star|thermometer|fireworks|firecracker|sparkler|sparkles|confetti-ball"
    r"|tanabata-tree|pine-decoration|carp-streamer|wind-chime|red-envelope|ribbon|reminder-ribbon|.*tickets?|softball"
    r"|rugby-football|tennis|flying-disc|goal-net|martial-arts-uniform|running-shirt|.*-suit|joker|mahjong-.*|slot-machine"
    r"|framed-picture|performing-arts|knot|lab-coat|one-piece-swimsuit|briefs|womans-.*|clutch-bag|purse|shopping-bags"
    r"|mans-shoe|flat-shoe|prayer-beads|military-helmet|bell-with-slash|level-slider|control-knobs|.*-with-arrow"
    r"|telephone-receiver|pager|fax-machine|low-battery|trackball|computer-disk|optical-disk|dvd|film-frames|video-camera"
    r"|camera-with-flash|videocassette|magnifying-glass-tilted-right|diya-lamp|notebook.*|green-book|blue-book|orange-book"
    r"|ledger|page-.*|rolled-up-newspaper|bookmark.*|label|newspaper|envelope|e-mail|incoming-envelope|.*-tray"
    r"|ballot-box-with-ballot|black-nib|pen|memo|file-.*|open-file-folder|.*calendar|spiral-notepad|clipboard|.*pushpin"
    r"|linked-paperclips|triangular-ruler|wastebasket|unlocked|locked-with-.*|old-key|hammer-and-.*|pick|dagger|bomb"
    r"|white-cane|link|broken-chain|chains|clamp|crutch|drop-of-blood|petri-dish|syringe|pill|x-ray|toilet|plunger|razor"
    r"|elevator|window|bubbles|roll-of-paper|bow-and-arrow|hole|skull.*|nut-and-bolt|screwdriver|mosquito|fly|cockroach"
    r"|ice-cream|spouting-whale|brown-mushroom|hourglass-not-done|bug|pig-nose|cut-of-meat|shallow-pan-of-food"
    r"|magnifying-glass-tilted-right|teacup-without-handle|hair-pick|hook|long-drum|locked|flag-in-hole)$"
)
"""Slugs left out, matched from the start."""

_PAIRS = (
    "glasses sunglasses goggles jeans gloves socks shorts skis chopsticks maracas scissors crossed-swords "
    "ballet-shoes"
)
_GROUPS = {
    "bunch": "cherries blueberries",
    "stack": "pancakes books",
    "loaf": "bread",
    "slice": "bacon",
    "bag": "popcorn",
    "portion": "french-fries sushi spaghetti cooked-rice curry-rice green-salad",
    "bulb": "garlic",
    "piece": "broccoli leafy-green ginger-root soap coral yarn",
    "set": "nesting-dolls",
    "handful": "peanuts",
}
_NAMES = {
    "t-rex": "tyrannosaurus",
    "long-drum": "conga drum",
    "hot-beverage": "cup of coffee",
    "magnifying-glass-tilted-left": "magnifying glass",
    "hourglass-done": "hourglass",
    "ear-of-corn": "ear of corn",
    "leafy-green": "lettuce",
    "bowl-with-spoon": "bowl",
    "pot-of-food": "pot of stew",
    "steaming-bowl": "bowl of noodles",
    "bottle-with-popping-cork": "champagne bottle",
    "cup-with-straw": "soft drink",
    "folding-hand-fan": "fan",
    "couch-and-lamp": "couch",
    "ring-buoy": "life belt",
    "satellite-antenna": "satellite dish",
    "diving-mask": "snorkel",
    "statue-of-liberty": "statue of liberty",
    "thong-sandal": "sandal",
    "pool-8-ball": "pool ball",
    "honey-pot": "pot of honey",
    "fire": "camp fire",
    "thread": "spool of thread",
    "safety-vest": "safety vest",
}
"""Names that read better than emojibase's, so that every name takes "a" or "an"."""

EXTRA_ROLES: dict[str, tuple[tuple[str, ...], tuple[str, str]]] = {
    "judge": (("judge",), ("woman", "dark")),
    "factory-worker": (("welder", "factory worker"), ("woman", "medium")),
    "office-worker": (("office worker", "clerk"), ("man", "medium-dark")),
    "scientist": (("scientist",), ("woman", "medium-dark")),
    "technologist": (("programmer",), ("woman", "medium-light")),
    "detective": (("detective",), ("man", "medium")),
    "guard": (("guard", "royal guard"), ("man", "light")),
    "construction-worker": (("builder", "construction worker"), ("woman", "medium")),
    "mage": (("mage", "wizard"), ("woman", "light")),
    "elf": (("elf",), ("man", "medium-light")),
    "fairy": (("fairy",), ("man", "medium-dark")),
    "superhero": (("superhero", "hero"), ("woman", "dark")),
    "vampire": (("vampire",), ("man", "light")),
    "juggling": (("juggler",), ("man", "medium")),
    "running": (("runner",), ("woman", "medium-dark")),
    "surfing": (("surfer",), ("woman", "medium")),
    "swimming": (("swimmer",), ("man", "dark")),
    "golfing": (("golfer",), ("woman", "light")),
    "biking": (("cyclist",), ("man", "medium-light")),
    "rowing-boat": (("rower",), ("woman", "dark")),
    "climbing": (("climber",), ("man", "medium")),
    "lifting-weights": (("weight lifter",), ("woman", "medium-light")),
    "cartwheeling": (("acrobat",), ("man", "medium-dark")),
    "in-lotus-position": (("yogi",), ("woman", "default")),
}
"""Roles beside those of the small world: words, then dominant (gender, tone)."""


def _words(slug: str, label: str) -> list[str]:
    """A plain lower-case name from an emojibase label: letters and single spaces only, one that takes an
    article.
    """
    if slug in _NAMES:
        return [_NAMES[slug]]
    if slug in _PAIRS.split():
        return [f"pair of {slug.replace('-', ' ')}"]
    for unit, slugs in _GROUPS.items():
        if slug in slugs.split():
            return [f"{unit} of {slug.replace('-', ' ')}"]
    plain = " ".join(re.findall("[a-z]+", label.lower().replace("’", "")))
    return [plain or slug.replace("-", " ")]


def _complete(icons: IconSet, role: str) -> bool:
    return all(icons.person(role, t, g) in icons for t in TONES for g in ("woman", "man", "person"))


def choose(art: Path) -> dict[str, Any]:
    """The large world's classes as data: ``objects`` and ``roles`` with words, dominant ``looks``,
    ``missing`` art.
    """
    sets = load_sets(art, tuple(SETS))
    base = art / "emojibase-data"
    groups = json.loads((base / "meta" / "groups.json").read_text())["subgroups"]
    chars: dict[str, str] = json.loads((art / "@iconify-json" / SETS["noto"] / "chars.json").read_text())
    small = WORLDS["small"]
    objects: dict[str, list[str]] = {slug: list(small.words[slug]) for slug in small.objects}
    for entry in json.loads((base / "en" / "data.json").read_text()):
        code = entry["hexcode"].lower()
        slug = chars.get(code) or chars.get(code.replace("-fe0f", ""))
        if slug is None or slug in objects or groups.get(str(entry.get("subgroup"))) not in KEPT_SUBGROUPS:
            continue
        if not EXCLUDED.match(slug) and sum(slug in icons for icons in sets.values()) >= 3:
            objects[slug] = _words(slug, entry["label"])
    roles = {role: list(small.words[role]) for role in small.roles}
    roles |= {role: list(words) for role, (words, _) in EXTRA_ROLES.items()}
    roles = {r: w for r, w in roles.items() if sum(_complete(icons, r) for icons in sets.values()) >= 3}
    missing = [f"{s}/{slug}" for s, icons in sets.items() for slug in objects if slug not in icons]
    missing += [f"{s}/{role}" for s, icons in sets.items() for role in roles if not _complete(icons, role)]
    looks = {role: EXTRA_ROLES[role][1] for role in roles if role in EXTRA_ROLES}
    return {"objects": objects, "roles": roles, "looks": looks, "missing": missing}


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Choose the classes of the large world.")
    parser.add_argument(
        "--art", type=Path, required=True, help="node_modules folder with the art and emojibase-data"
    )
    chosen = choose(parser.parse_args(argv).art)
    path = Path(__file__).with_name("large.json")
    path.write_text(json.dumps(chosen, indent=0, ensure_ascii=True) + "\n")
    print(f"{len(chosen['objects'])} objects, {len(chosen['roles'])} roles in {path.name}")


if __name__ == "__main__":
    main()
