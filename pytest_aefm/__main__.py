"""``python -m pytest_aefm``: the command ``aefm``."""

import sys

from pytest_aefm.cli import main

sys.exit(main())
