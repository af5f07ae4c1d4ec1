"""One sentence for each way in which a model cannot be loaded, saying what to do."""

from __future__ import annotations

import errno
from pathlib import Path

from pipelines.loading.libraries import missing, not_installed

_OFFLINE = frozenset(
    {
        "LocalEntryNotFoundError",
        "OfflineModeIsEnabled",
        "ConnectionError",
        "ConnectError",
        "ConnectTimeout",
        "ReadTimeout",
        "CachedRepoTreeNotFoundError",
    }
)


_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What torch's plain errors say: of its allocators only CUDA's has an error of its own."""

PICKLES = (".bin", ".ckpt", ".pt", ".pth")
"""How files with weights end that can run code."""


def sentence(name: str, source: str, error: BaseException, what: str = "model") -> str:
    """What went wrong with ``what``, told from the classes of all errors in the chain: libraries wrap the hub's own."""
    chain = _chain(error)
    kinds = {base.__name__ for link in chain for base in type(link).__mro__}
    full = any(getattr(link, "errno", None) == errno.ENOSPC for link in chain)
    where = f"{what} {name!r}"
    otherwise = "choose the embedded model" if what == "model" else "leave it out"
    if full:
        return (
            f"{where} does not fit on the disk; free some space, or set HF_HOME to a folder on another disk."
        )
    if "GatedRepoError" in kinds:
        return f"{where} is gated; accept its licence on its page at the hub and log in with `hf auth login`."
    if "RepositoryNotFoundError" in kinds:
        return f"{where} is not on the hub as {source!r}; check the id, or log in if it is private."
    if not Path(source).exists() and kinds & _OFFLINE:
        return (
            f"{where} is not on this machine and the hub cannot be reached; connect to the network once, give a "
            f"folder, or {otherwise}."
        )
    if "SafetensorError" in kinds or "SafetensorsParsingError" in kinds:
        return f"{where} could not be loaded: its file is damaged or no model; download it again."
    if library := missing(error):
        return not_installed(where, library)
    if Path(source).is_file():
        return (
            f"{where} could not be loaded from its file ({first_line(error)}); it may be of another family, or need "
            "--config with a folder of configs."
        )
    return (
        f"{where} could not be loaded from {source!r} ({first_line(error)}); "
        f"check the name, the network and your access to it, or {otherwise}."
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, this error or one that led to it: the libraries wrap that too."""
    return any(
        isinstance(link, MemoryError)
        or type(link).__name__ == "OutOfMemoryError"
        or getattr(link, "errno", None) == errno.ENOMEM
        or (isinstance(link, RuntimeError) and any(words in str(link) for words in _NO_MEMORY))
        for link in _chain(error)
    )


def _chain(error: BaseException) -> list[BaseException]:
    """The error, and those that led to it."""
    found = [error]
    while (link := found[-1].__cause__ or found[-1].__context__) is not None:
        found.append(link)
    return found


def first_line(error: BaseException) -> str:
    """The first line of an error's text without its full stop, its class where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def pickled(name: str) -> str:
    """Weights that can run code."""
    return f"{name!r} has pickled weights, which can run code; use safetensors, or --allow-pickle if you trust them."


def no_room(name: str, needed: int | None = None, free: int | None = None) -> str:
    """Too little memory, in bytes where they are known."""
    known = (
        f" ({needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free)" if needed and free is not None else ""
    )
    return (
        f"there is too little free memory to load model {name!r}{known}; close programs, set --dtype or --quantize, "
        "or choose another."
    )
