"""`python -m emgcodec` is the command line."""

import sys

from emgcodec.cli import main

sys.exit(main())
