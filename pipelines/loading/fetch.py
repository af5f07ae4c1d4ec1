"""Files from the hub, with progress in bytes; of a model only what a run reads.

diffusers' own download shows progress on a terminal alone, so the files are fetched here, by the hub's own library.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pipelines.errors import ModelError
from pipelines.loading.failures import PICKLES, pickled, sentence
from pipelines.loading.libraries import check_libraries
from pipelines.models.card import ModelCard

Say = Callable[[int, int], None]
"""Told how many bytes of how many are here; what it raises ends the download."""

_READ = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors")
VARIANTS = ("*.*.safetensors", "*.*.bin", "*.fp16-*", "*.non_ema-*")
"""``model.fp16.safetensors`` and the like: the same weights again, for those who ask for a variant."""


def fetch_file(repo: str, name: str, model: str | None = None) -> Path | None:
    """A small file of a hub id, None where it has none of that name. Raises `ModelError`, which names ``model``."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        here = try_to_load_from_cache(repo, name)
        if isinstance(here, str):
            return Path(here)
        return Path(hf_hub_download(repo, name, tqdm_class=_reporter(lambda done, total: None)))
    except LocalEntryNotFoundError as error:
        raise ModelError(sentence(model or repo, repo, error)) from error
    except EntryNotFoundError:
        return None
    except Exception as error:  # the hub's library raises what it likes; each cause gets its sentence
        raise ModelError(sentence(model or repo, repo, error)) from error


def fetch_model(card: ModelCard, say: Say, *, pickles: bool, without: str | None = None) -> Path:
    """The folder, or the one file, of a card whose source is a hub id. Raises what the hub's library raises.

    ``pickles`` fetches pickled weights of parts that have no others; of the part ``without`` the config alone is
    fetched. Raises `ModelError` before anything is where a part has pickled weights alone and they may not be read.
    """
    if card.file is not None:
        return fetch(card.source, [card.file], say) / card.file
    index = fetch_file(card.source, "model_index.json", card.name)
    if index is None:
        raise ModelError(f"model {card.name!r} has no model_index.json on the hub; choose another.")
    check_libraries(card.name, index)
    stated = json.loads(index.read_text(encoding="utf-8"))
    parts = [name for name, kind in stated.items() if isinstance(kind, list) and kind[0] is not None]
    unsafe = (set(parts) - {without}) & only_pickled(names(card.source))
    if unsafe and not pickles:
        raise ModelError(pickled(card.name))
    wanted = [f"{part}/{kind}" for part in parts for kind in (("config.json",) if part == without else _READ)]
    return fetch(card.source, ["model_index.json", *wanted, *(f"{part}/*.bin" for part in unsafe)], say)


def only_pickled(files: Iterable[str]) -> set[str]:
    """The folders in which weights are pickled and there are no others, of paths of files with slashes."""
    kinds: dict[str, set[str]] = {}
    for file in files:
        folder, _, name = file.rpartition("/")
        if not any(fnmatch(name, variant) for variant in VARIANTS):
            kinds.setdefault(folder, set()).add(Path(name).suffix)
    return {one for one, found in kinds.items() if found & set(PICKLES) and ".safetensors" not in found}


def names(repo: str) -> list[str]:
    """The files of a hub id, or what is known of them here where it cannot be asked. Raises what its library raises."""
    from huggingface_hub import get_cached_repo_tree, list_repo_files
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, RepositoryNotFoundError

    try:
        return list(list_repo_files(repo))
    except RepositoryNotFoundError:  # the hub has answered
        raise
    except Exception:  # noqa: BLE001 - whichever way the hub cannot be reached
        try:
            return [file.path for file in get_cached_repo_tree(repo)]
        except CachedRepoTreeNotFoundError:  # fetched before the library kept lists
            folder = fetch(repo, ["*"], lambda done, total: None, local=True, without=())
            return [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]


def fetch(
    repo: str, wanted: Sequence[str], say: Say, *, local: bool = False, without: Sequence[str] = VARIANTS
) -> Path:
    """The folder with the ``wanted`` files of a hub id, but those ``without`` (patterns); ``local`` asks this machine
    alone.
    """
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(
            repo,
            allow_patterns=list(wanted),
            ignore_patterns=list(without),
            local_files_only=local,
            tqdm_class=_reporter(say),
        )
    )


def _reporter(say: Say) -> Any:
    """A progress bar's class, as the hub's library wants one, that draws nothing and tells ``say``."""
    from tqdm import tqdm

    class Reporter(tqdm):  # type: ignore[misc]  # it has no types
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # of the two bars of bytes one counts what came over the network, the other what is in place: that is told
            self._told = kwargs.get("unit") == "B" and kwargs.get("desc") != "Downloading bytes"
            super().__init__(*args, **{**kwargs, "file": _Nowhere()})

        def update(self, n: float | None = 1) -> bool | None:
            shown: bool | None = super().update(n)
            if self._told:
                say(int(self.n), int(self.total or 0))
            return shown

    return Reporter


class _Nowhere:
    def write(self, text: str) -> None:
        """Drop it."""

    def flush(self) -> None:
        """Nothing was kept."""
