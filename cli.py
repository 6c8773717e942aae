"""Run tlkit from a checkout: `python cli.py train ...` is `tlkit train ...`."""

from tlkit.cli.main import main

if __name__ == "__main__":
    main()
