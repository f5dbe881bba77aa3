"""`python -m evtrace`."""

from evtrace.cli import main

if __name__ == "__main__":
    main()
