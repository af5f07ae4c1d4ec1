"""The studio as a web page: `python app.py` on a machine of one's own, and the entry of a Hugging Face Space."""

try:
    import spaces  # before torch; there only on Spaces, where it lends a GPU to one render at a time
except ImportError:
    gpu = None
else:
    gpu = spaces.GPU(duration=120)

from studio.log import to_stderr
from studio.ui import build, launch_options

to_stderr()
demo = build(gpu=gpu)

if __name__ == "__main__":
    demo.launch(**launch_options())
