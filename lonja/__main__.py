"""`python -m lonja`: the same as `lonja`."""

from lonja.cli.main import main

if __name__ == "__main__":
    main()
