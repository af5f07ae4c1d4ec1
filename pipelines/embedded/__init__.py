"""The embedded model: a small text-to-image model of a small, cheerful world, trained by ``training/`` and
shipped in ``weights/``.
"""
