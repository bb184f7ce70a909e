"""`python -m pipelines` is `attnlab`."""

import sys

from pipelines.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
