"""One test for each trap found in the code released with the two papers.

Collage Diffusion (arXiv 2303.00262) and NegToMe (arXiv 2412.01339) work in their papers as described; their released
code departs from it in places that are easy to repeat. Each test here fails where ours would do the same.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch

from pipelines import schedulers
from pipelines.attention.kernel import Kernel, Site
from pipelines.engine import Engine
from pipelines.errors import PhraseError
from pipelines.families import family
from pipelines.families.spans import tokens_of_spans
from pipelines.methods.base import Inputs
from pipelines.methods.harmonize import Harmonize, gaussian, release_map, strength_map
from pipelines.methods.layer_attention import LayerAttention
from pipelines.methods.negtome import Spread, match, push
from pipelines.pictures import PictureStore
from pipelines.request import RenderRequest
from studio.defaults import DEFAULTS
from studio.references import READY
from tests.pipelines import tiny

OWN = Site(cross=False, part="up")
NO_INPUTS = Inputs(torch.zeros(0), {})


@pytest.fixture(scope="module")
def engine() -> Engine:
    made = Engine(preview_seconds=0)
    made.adopt("sd_noise", tiny.sd_noise(), tiny.card_for("sd_noise"))
    return made


@pytest.fixture
def store() -> PictureStore:
    return PictureStore()


def features(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, 1, 64, 16, generator=torch.Generator().manual_seed(seed))


def spread_of(engine: Engine, store: PictureStore, images: int, **words: Any) -> Spread:
    """Spread in its first step."""
    given = {"spread": 1.0, "spread_by": "push", "spread_threshold": 0.0, "images": images, **words}
    run = tiny.run_of(engine, tiny.text_request("sd_noise", **given), store, images)
    method = Spread()
    method.begin(run, Kernel())
    method.before_forward(tiny.step_of(run, run.first, guided=run.request.guidance > 1), NO_INPUTS)
    return method


def test_trap_01_best_match_is_sought_over_the_reference() -> None:
    """Released: ``max`` over the source axis, its index then read in the reference: 3 % right on a shuffled copy."""
    reference = features(1)[0, 0]
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    assert torch.equal(match(reference[order], reference)[1], order)
    assert (match(reference[order], reference, axis="released")[1] == order).float().mean() < 0.1
    # pushed from the true match a shuffled copy stays where it is, since f − r is 0; the released rule moves it
    assert push(reference[order], reference, 1.0, 0.5).abs().max() < 1e-5
    assert push(reference[order], reference, 1.0, 0.5, axis="released").abs().max() > 0.5


def test_trap_02_layer_strengths_reach_the_map_whole() -> None:
    """Released: the paste mask is 0/1 where Pillow reads 0/255, so the map is nearly flat (.796 for a .2 layer)."""
    masks = torch.from_numpy(np.stack([tiny.CAR, tiny.CAT])).float() / 255
    found = strength_map(masks, [0.2, 0.9], 0.5, [0.0, 0.0])
    assert float(found[20, 45] - found[20, 10]) == pytest.approx(0.7)
    release = release_map(found, (8, 8), 10)
    assert int(release[3, 2] - release[3, 6]) == 7, "and through to the steps"


def test_trap_03_the_editable_area_grows_and_the_frozen_one_does_not(
    engine: Engine, store: PictureStore
) -> None:
    """Released: dilates the *frozen* area at high noise, though it cites a paper that dilates the editable one."""
    request = tiny.collage_request(
        store, "sd_noise", cat={"harmonize": 0.2, "feather": 6.0}, car={"harmonize": 0.0}, steps=10
    )
    run = tiny.run_of(engine, request, store)
    method = Harmonize()
    method.begin(run, Kernel())
    marker = torch.full((1, 4, 8, 8), 1e6)
    held = [int((method.after_step(index, marker)[0, 0] != 1e6).sum()) for index in range(run.first, 10)]
    assert held == sorted(held, reverse=True) and held[0] > held[-1] > 0
    # no cell is held longer than its own strength says
    masks = torch.from_numpy(np.stack([tiny.CAR, tiny.CAT])).float() / 255
    strengths = strength_map(masks, [0.0, 0.2], 0.6, [0.0, 6.0])
    cells = strengths.reshape(8, 8, 8, 8).mean((1, 3))
    assert (method.release <= 10 - torch.floor(cells * 10 - 1e-3)).all()
    # at a softened border the layer's cells may change sooner than its core
    hard = release_map(strength_map(masks, [0.0, 0.2], 0.6, [0.0, 0.0]), (8, 8), 10)
    assert method.release[1, 5] < hard[1, 5] == 8
    assert method.release[3, 6] == hard[3, 6] or strengths[28, 48] > 0.2


def test_trap_04_one_noise_for_the_whole_run_and_clean_at_the_end(
    engine: Engine, store: PictureStore
) -> None:
    """Released: frozen pixels get new noise after each step, at the level *before* that step."""
    request = tiny.collage_request(store, "sd_noise", cat={"harmonize": 0.0}, steps=10)
    run = tiny.run_of(engine, request, store)
    assert run.clean is not None and run.noise is not None
    method = Harmonize()
    method.begin(run, Kernel())
    frozen = (method.release == 10)[None, None].expand_as(run.clean)
    for index in range(run.first, 10):
        out = method.after_step(index, torch.zeros_like(run.clean))
        alpha, sigma = run.levels[index + 1]
        assert torch.allclose(out[frozen], (alpha * run.clean + sigma * run.noise)[frozen], atol=1e-6)
        again = method.after_step(index, torch.zeros_like(run.clean))
        assert torch.equal(out, again), "nothing is drawn"
        before = run.levels[index]
        assert not torch.allclose(out[frozen], schedulers.noised(run.clean, run.noise, before, False)[frozen])
    assert torch.equal(out[frozen], run.clean[frozen])


def test_trap_05_words_are_found_by_place_not_by_search() -> None:
    """Released: a search over tokens: "table" lands in "coffee table", repeats share, what is cut shifts masks."""
    text = "a coffee table and a table and a table"
    places = [(2, 14), (21, 26), None, (33, 38)]
    found = tokens_of_spans(tiny.tokenizer(), text, places, ["one", "two", "pixels", "three"])
    assert found == [[2, 3], [6], [], [9]], "four layers in, four lists out, in their order"
    long = "a " * 76 + "table"
    with pytest.raises(PhraseError, match="layer 'far'"):
        tokens_of_spans(tiny.tokenizer(), long, [(len(long) - 5, len(long))], ["far"])


def test_trap_06_no_image_is_sacrificed_as_the_reference(engine: Engine, store: PictureStore) -> None:
    """Released: image 0 is the reference of all and never moves."""
    method = spread_of(engine, store, images=3)
    given = features(6)
    out = method.map_output(OWN, given)
    assert ((out - given).abs().amax((1, 2, 3)) > 0.1).all()
    order = [2, 0, 1, 5, 3, 4]
    assert torch.allclose(method.map_output(OWN, given[order]), out[order], atol=1e-5)
    # asked for by name, the paper's rule is there: image 0 of each branch stays bit for bit, the others move
    papers = spread_of(engine, store, images=3, spread_match="first").map_output(OWN, given)
    assert torch.equal(papers[[0, 3]], given[[0, 3]])
    assert ((papers - given)[[1, 2, 4, 5]].abs().amax((1, 2, 3)) > 0.1).all()
    # by guidance no image is left out either: the negative row of each moves
    ours = spread_of(engine, store, images=3, spread_by="guidance", guidance=4.0).map_output(OWN, given)
    assert ((ours - given)[:3].abs().amax((1, 2, 3)) > 0.05).all()
    assert torch.equal(ours[3:], given[3:])


def test_trap_07_a_positive_alpha_pushes_away() -> None:
    """Released: older evaluation scripts have the sign the other way round."""
    source, reference = features(1)[0, 0], features(1, 1)[0, 0]
    similarity, index = match(source, reference)
    for alpha, nearer in ((0.9, False), (-0.5, True)):
        after = torch.nn.functional.cosine_similarity(
            source + push(source, reference, alpha, -1.0), reference[index], dim=-1
        )
        assert ((after > similarity) == nearer).all()
    assert "pushes away" in (inspect.getdoc(push) or "")
    assert all((fields.get("alpha", 1) < 0) == (name == "style") for name, fields in READY.items())


def test_trap_08_each_default_has_one_place() -> None:
    """Released: four values of alpha and threshold in slider, function, dataclass and script."""
    for function in (push, match):
        given = inspect.signature(function).parameters
        assert all(
            name not in given or given[name].default is inspect.Parameter.empty
            for name in ("alpha", "threshold")
        )
    avoid = inspect.signature(tiny.AvoidRequest).parameters
    assert avoid["alpha"].default is avoid["threshold"].default is inspect.Parameter.empty
    assert all("threshold" not in fields for fields in READY.values()), (
        "ready settings have no second default"
    )
    fields = inspect.signature(RenderRequest).parameters
    assert fields["spread_threshold"].default == DEFAULTS["spread_threshold"]
    assert fields["window"].default == DEFAULTS["window"]


@pytest.mark.parametrize("guidance", [4.0, 1.0])
def test_trap_09_guidance_branches_do_not_match_each_other(
    engine: Engine, store: PictureStore, guidance: float
) -> None:
    """Rows are [negative…, positive…]; a run without guidance has one branch."""
    assert family("sd").rows(6, 3) == ([3, 4, 5], [[0, 1, 2], [3, 4, 5]])
    assert family("sd").rows(3, 3) == ([0, 1, 2], [[0, 1, 2]])
    method = spread_of(engine, store, images=2, guidance=guidance)
    given = features(4 if guidance > 1 else 2)
    before = method.map_output(OWN, given.clone())
    assert ((before - given).abs().amax((1, 2, 3)) > 0.1).all()
    changed = given.clone()
    changed[-1] *= -1
    after = method.map_output(OWN, changed)
    if guidance > 1:
        assert torch.equal(before[:2], after[:2]), "the negative branch does not see the positive one"
    assert not torch.allclose(before[-2], after[-2])


def test_trap_11_strength_does_not_depend_on_the_scale_of_the_scene(
    engine: Engine, store: PictureStore
) -> None:
    """The bias follows the logits' own scale, per image; and no strength is no bias at all."""
    request = tiny.collage_request(store, "sd_noise", car={"attend_inside": 0.8, "attend_outside": 0.4})
    run = tiny.run_of(engine, request, store, images=2)
    method, kernel = LayerAttention(), Kernel()
    method.begin(run, kernel)
    method.before_forward(tiny.step_of(run, run.first), NO_INPUTS)
    cross = Site(cross=True, part="down")
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(4, 2, 64, 8, generator=generator)
    key = torch.randn(4, 2, 77, 8, generator=generator)
    bias = method.logit_bias(cross, query, key, 0.5)
    tripled = method.logit_bias(cross, query * torch.tensor([1, 1, 1, 3.0])[:, None, None, None], key, 0.5)
    assert bias is not None and tripled is not None
    assert torch.equal(bias[:3], tripled[:3]), "the other image's scale does not count"
    assert torch.allclose(tripled[3], 3 * bias[3], atol=1e-4) and bias[3].abs().max() > 0

    off = tiny.run_of(engine, tiny.collage_request(store, "sd_noise"), store)
    silent = Kernel()
    LayerAttention().begin(off, silent)
    assert silent.logit_bias == []
    value = torch.randn(4, 2, 77, 8, generator=generator)
    stock = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    assert torch.equal(silent.attend(cross, query, key, value), stock)
    assert not torch.equal(kernel.attend(cross, query, key, value), stock)


def test_gaussian_of_trap_03_is_the_map_blurred_once() -> None:
    """The paper blurs the finished map; with one feather for all layers ours is the same."""
    masks = torch.from_numpy(np.stack([tiny.CAR, tiny.CAT])).float() / 255
    hard = strength_map(masks, [0.2, 0.9], 0.5, [0.0, 0.0])
    assert torch.allclose(strength_map(masks, [0.2, 0.9], 0.5, [3.0, 3.0]), gaussian(hard, 3.0), atol=1e-5)
