"""The diffusion backend: requests in, events out; importing it loads no torch."""

from pipelines.remarks import silence

silence()  # here, as any module of ours may be the first to import a library that imports torchao
