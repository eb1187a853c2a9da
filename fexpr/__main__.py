"""`python -m fexpr`: the command `fexpr`, where it is not installed."""

from fexpr.cli import main

if __name__ == "__main__":
    main()
