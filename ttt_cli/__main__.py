"""`python -m ttt_cli`: the same as `ttt`."""

from . import main

if __name__ == "__main__":
    main()
