"""`python -m sdlora`"""

from sdlora.cli import main

if __name__ == "__main__":
    main()
