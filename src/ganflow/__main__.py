"""`python -m ganflow` is the same as `ganflow`."""

from ganflow.cli import main

raise SystemExit(main())
