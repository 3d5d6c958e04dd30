"""Start the web app from a checkout: `python app.py` is `python -m sdlora app`."""

import sys

from sdlora.cli import main

if __name__ == "__main__":
    main(["app", *sys.argv[1:]])
