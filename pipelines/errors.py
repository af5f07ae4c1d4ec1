"""Every error the project raises on purpose.

::

    DecollageError
    ├── DocumentError          something the user made cannot be used; the document stays as it was
    │   ├── FieldError         a field is missing, unknown, out of bounds or not a number
    │   ├── VersionError       the document was written by a newer Decollage
    │   ├── PictureError       a picture cannot be read, is too large, or is missing
    │   ├── ArchiveError       a .collage file, folder or PNG cannot be opened as a collage
    │   └── PhraseError        a layer's words cannot be placed in the prompt the model reads
    │       └── CutOffError    they stand beyond what the model reads of it
    └── EngineError            the document is fine; this machine or model cannot do it
        ├── ModelError         the model is unknown, missing, gated, of the wrong kind, or does not fit in memory
        ├── UnsupportedError   the chosen model or scheduler cannot do a word the collage asks for
        └── Cancelled          the run was stopped by the user

A message is one sentence: what is wrong, where (which layer, which field), what to do.
"""

from __future__ import annotations

__all__ = [
    "ArchiveError",
    "Cancelled",
    "CutOffError",
    "DecollageError",
    "DocumentError",
    "EngineError",
    "FieldError",
    "ModelError",
    "PhraseError",
    "PictureError",
    "RoomError",
    "UnsupportedError",
    "VersionError",
]


class DecollageError(Exception):
    """Base of all errors raised on purpose; ``str(error)`` is one sentence fit for a user."""


class DocumentError(DecollageError):
    """The collage, or a file it came from, cannot be used as it is."""


class FieldError(DocumentError):
    """A field is missing, unknown, out of bounds or not a number."""


class VersionError(DocumentError):
    """The document's schema version is newer than this program's."""


class PictureError(DocumentError):
    """A picture cannot be read, is too large, or is not in the store."""


class ArchiveError(DocumentError):
    """A file or folder cannot be opened as a collage."""


class PhraseError(DocumentError):
    """A layer's words are cut off by the tokenizer or cannot be found in the prompt."""


class CutOffError(PhraseError):
    """Words lie beyond what the model reads of a prompt."""


class EngineError(DecollageError):
    """The run cannot be done on this machine or with this model."""


class ModelError(EngineError):
    """The model is unknown, missing, of the wrong kind, or does not fit in memory."""


class RoomError(ModelError):
    """There is too little free memory to load the model."""


class UnsupportedError(EngineError):
    """The chosen model or scheduler cannot do something the collage asks for."""


class Cancelled(EngineError):
    """The run was stopped; nothing was decoded after the stop."""
