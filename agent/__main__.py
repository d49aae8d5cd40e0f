"""The start of the command, as `agent` and as `python -m agent`: Ctrl-C while it is being imported ends it quietly."""

import sys


def main() -> int:
    """Import the command line and run it; its exit code."""
    try:
        from agent.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    return run()


if __name__ == "__main__":
    sys.exit(main())
