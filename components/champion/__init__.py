"""The step champion."""
