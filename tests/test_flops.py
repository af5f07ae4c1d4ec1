"""The count of arithmetic is the engine's own: on tiny models it is what a real run does, to the last product."""

from __future__ import annotations

import dataclasses
import inspect
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pipelines import sampling
from pipelines.attention.memo import Memory
from pipelines.engine import Engine, Loaded
from pipelines.families import families
from pipelines.models import CARDS
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest
from studio.defaults import DEFAULTS
from tests.benchmarks import common, flops, shapes, text_memo
from tests.pipelines import tiny
from tests.pipelines import tiny_transformers as tt
from tests.pipelines.runs import sampled

MODELS = ("embedded", "sd_noise", "sd2", "sdxl", *tt.KINDS)
RUNS = ("stock", "attention", "spread", "avoid", "thinned")


@pytest.fixture(scope="module")
def engine() -> Engine:
    """Tiny pipelines of every family that is counted, and the embedded model with NegToMe on its smaller grids."""
    made = Engine()
    real = made.load("embedded")
    made.adopt("embedded", real.pipe, dataclasses.replace(real.card, smallest_grid=4))
    for name in MODELS[1:]:
        kinds: Any = tt if name in tt.KINDS else tiny
        made.adopt(name, kinds.KINDS[name](), kinds.card_for(name))
    return made


@pytest.fixture
def store() -> PictureStore:
    """An empty picture store."""
    return PictureStore()


def asked(loaded: Loaded, run: str, store: PictureStore) -> RenderRequest:
    """A request of two images and two steps, NegToMe in the first; both prompts of one length."""
    card = loaded.card
    words: dict[str, Any] = {"scheduler": card.scheduler, "steps": 2, "guidance": card.guidance, "images": 2}
    if "negative_prompt" not in loaded.family.refused:
        words["negative_prompt"] = tiny.PROMPT
    if run == "attention":
        both = {"harmonize": 1.0, "attend_inside": 0.5, "attend_outside": 0.5}
        return tiny.collage_request(store, card.name, car=both, cat=both, background_harmonize=1.0, **words)
    if run in ("spread", "thinned"):
        words |= {"spread": 1.0, "spread_threshold": 0.0}
    if run in ("avoid", "thinned"):
        words["avoids"] = (tiny.avoid(store),)
    return tiny.text_request(card.name, **words)


def in_the_engine(loaded: Loaded, request: RenderRequest, store: PictureStore) -> tuple[int, int]:
    """(what the denoiser does in a real run, text tokens of its rows)."""
    denoiser = loaded.family.denoiser(loaded.pipe)
    lengths: list[int] = []

    def look(_module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        states = kwargs.get("encoder_hidden_states")
        lengths.append(args[2][0].shape[0] if states is None else states.shape[1])

    handle = denoiser.register_forward_pre_hook(look, with_kwargs=True)
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            sampled(loaded, request, store, images=range(2))
    finally:
        handle.remove()
    return sum(counter.get_flop_counts()[type(denoiser).__name__].values()), lengths[0]


def subject_of(loaded: Loaded, request: RenderRequest, text: int) -> flops.Subject:
    """The tiny model without its numbers, and the places its words really have."""
    places = loaded.family.tokens(loaded.pipe, request)

    class Placed(flops.Subject):
        def tokens(self, layers: int) -> list[list[int]]:
            return places

    denoiser, vae = loaded.family.denoiser(loaded.pipe), loaded.pipe.vae
    config = dict(vae.config)  # with more in it than its class takes
    shape = shapes.Shape(
        name=loaded.card.name,
        card=loaded.card,
        kind=type(denoiser).__name__,
        sizes=dict(denoiser.config),
        vae=type(vae).__name__,
        encoder={word: config[word] for word in inspect.signature(type(vae)).parameters if word in config},
        text=text,
    )
    return Placed(shapes.parts(shape), loaded.card, text, 1)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("model", MODELS)
def test_the_count_is_what_a_run_does(
    engine: Engine, store: PictureStore, model: str, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without what is remembered of the text, which is left out on both sides."""
    monkeypatch.setattr(sampling, "remembered", lambda *_: nullcontext(Memory()))
    loaded = engine.load(model)
    if run == "thinned":
        loaded = dataclasses.replace(loaded, card=dataclasses.replace(loaded.card, thin_from=16))
    request = asked(loaded, run, store)
    real, text = in_the_engine(loaded, request, store)
    count = flops.count(subject_of(loaded, request, text), request, store)
    assert count.whole - count.begin == real
    assert (count.begin > 0) == (run in ("avoid", "thinned")), (
        "only a reference is encoded before the first step"
    )
    assert (count.active > count.rest) == (run in ("spread", "avoid", "thinned"))


@pytest.mark.parametrize("model", MODELS[:4])
def test_what_is_remembered_saves_the_texts_keys_and_values(
    engine: Engine, store: PictureStore, model: str
) -> None:
    loaded = engine.load(model)
    request = asked(loaded, "spread", store)
    real, text = in_the_engine(loaded, request, store)
    count = flops.count(subject_of(loaded, request, text), request, store)
    rows = 2 * request.images
    products = sum(linear.in_features * linear.out_features for linear in text_memo.maps(loaded.pipe.unet))
    assert count.whole - real == 2 * rows * text * products > 0, "the second of two steps"


def test_spread_is_one_product_a_block(engine: Engine, store: PictureStore) -> None:
    loaded = engine.load("flux")
    plain = dataclasses.replace(asked(loaded, "stock", store), images=3)
    subject = subject_of(loaded, plain, 512)
    stock, spread = (
        flops.count(subject, request, store)
        for request in (plain, plain.replace(spread=1.0, spread_threshold=0.5))
    )
    blocks, rows, tokens, width = 2, 3, 4 * 4, 2 * 16
    assert spread.active - stock.active == blocks * rows * 2 * tokens * (2 * tokens) * width
    thinned = dataclasses.replace(subject, card=dataclasses.replace(subject.card, thin_from=tokens))
    quarter = flops.count(thinned, plain.replace(spread=1.0, spread_threshold=0.5), store)
    assert 4 * (quarter.active - stock.active) == spread.active - stock.active
    assert spread.rest == stock.rest == stock.active


def test_sixteen_layers_are_counted_as_such(engine: Engine, store: PictureStore) -> None:
    loaded = engine.load("flux")
    settings = {**common.protocol("flops"), "layers": [2, 16]}
    plain = asked(loaded, "stock", store)
    subject = dataclasses.replace(
        flops.Subject(subject_of(loaded, plain, 512).pipe, loaded.card, 512, words=3), clip=0
    )
    runs = flops.contenders(plain, settings, store)
    counts = {name: vars(flops.count(subject, request, store)) for name, request in runs.items()}
    two, sixteen = (flops.added(counts, f"layer attention, {n} layers") for n in (2, 16))
    kept = (counts[name]["begin"] for name in ("avoid, one reference", "avoid, second render"))
    assert next(kept) > next(kept) == 0, "the reference is encoded for the first render alone"
    blocks, rows, heads, tokens, size = 2, 2, 2, 16, 16

    def expected(layers: int) -> int:
        sought = rows * heads * 2 * (3 * layers) * tokens * size
        spread_out = rows * 2 * tokens * (layers + 1) * (3 * layers)
        return blocks * (sought + spread_out)

    stock = counts["stock"]["rest"]
    assert two == pytest.approx(expected(2) / stock) and sixteen == pytest.approx(expected(16) / stock)
    assert next(iter(counts)) == "stock" and len(counts) == 8


def test_shares_and_targets() -> None:
    stock = {"begin": 0, "active": 100, "rest": 100, "active_steps": 2, "steps": 8}
    counts = {"stock": stock, "spread": {**stock, "active": 110}, "avoid": {**stock, "begin": 8}}
    assert flops.Count(**counts["spread"]).whole == 820
    assert flops.added(counts, "spread") == pytest.approx(0.025)
    assert flops.added(counts, "avoid") == pytest.approx(0.01)
    counts |= {"layer attention, 2 layers": stock, "layer attention, 16 layers": {**stock, "begin": 4}}
    targets = {"every model": {"more layers": 0.001}, "m": {"spread": 0.02, "avoid": 0.02}}
    settings = {"images": 4, "layers": [2, 16], "targets": targets}
    row = {"parameters": 2.5e9, "side": 64, "guidance": 4.0, "compared": [4, 16], "counts": counts}
    page = flops.report({"m": row}, settings)
    line = page.splitlines()[-1]
    assert "+2.50 % (≤ 2 %: **missed**)" in line and "+1.00 % (≤ 2 %: reached)" in line
    assert "+0.50 % (≤ 0.1 %: **missed**)" in line, "sixteen layers are held against two"
    assert "2 of 8" in line and "4 of 16" in line and "2.50 " in line
    assert page.startswith("**1 of 3 targets are reached.**") and "- m: spread +2.50 %" in page


def test_every_family_is_counted_as_its_card_runs() -> None:
    assert {shape.family for shape in shapes.SHAPES} == set(families())
    windows = {shape.name: shape.window for shape in shapes.SHAPES}
    assert windows["FLUX.2 Klein 4B"] == CARDS["flux2-klein"].own["window"]
    assert windows["SDXL"] == DEFAULTS["window"] != windows["Z-Image Turbo"]
    for shape in shapes.SHAPES:
        asked, card = flops.usual(shape, 4), shape.card
        assert card is CARDS[card.name]
        assert (asked.width, asked.steps, asked.guidance) == (card.side, card.steps, card.guidance)
        assert (asked.window, asked.images) == (shape.window, 4)


def test_a_phrase_stands_twice_where_two_encoders_read_it() -> None:
    subject = flops.Subject(None, tiny.card_for("sdxl"), text=333, words=2, clip=77)
    assert subject.tokens(2) == [[1, 2, 78, 79], [3, 4, 80, 81]]
    assert dataclasses.replace(subject, clip=0).tokens(1) == [[1, 2]]


@pytest.mark.parametrize(
    ("name", "published", "compared"),
    [
        ("embedded", 11.39e6, (256, 256)),
        ("SD 1.5", 859.5e6, (1024, 4096)),
        ("SD 2.1", 865.9e6, (2304, 9216)),
        ("SDXL", 2.567e9, (1024, 4096)),
        ("FLUX.1 dev", 11.90e9, (1024, 4096)),
        ("FLUX.2 dev", 32.2e9, (1024, 4096)),
        ("FLUX.2 Klein 4B", 3.88e9, (1024, 4096)),
    ],
)
def test_sizes_are_the_real_ones(name: str, published: float, compared: tuple[int, int]) -> None:
    shape = next(shape for shape in shapes.SHAPES if shape.name == name)
    subject = flops.subject(shape, words=3)
    asked = tiny.text_request(width=shape.card.side, height=shape.card.side)
    assert flops.compared(subject, asked) == compared
    assert flops.compared(subject, asked.replace(exact_match=True)) == (compared[1], compared[1])
    denoiser = shapes.family(shape.family).denoiser(subject.pipe)
    assert all(parameter.device == torch.device("meta") for parameter in denoiser.parameters())
    assert sum(p.numel() for p in denoiser.parameters()) == pytest.approx(published, rel=2e-3)
