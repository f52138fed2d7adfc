"""``python -m emloop_mtl`` is the command ``emloop-mtl``."""

from .cli import main

if __name__ == "__main__":
    main()
