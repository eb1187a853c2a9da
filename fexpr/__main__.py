"""`python -m fexpr`: the command `fexpr` without installation."""

from fexpr.cli import main

if __name__ == "__main__":
    main()
