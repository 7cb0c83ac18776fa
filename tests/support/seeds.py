"""The seed of the cluster's tests that act at random moments: NEUROPOD_TEST_SEED names another, to find more, or one again."""

import os

SEED = int(os.environ.get("NEUROPOD_TEST_SEED", "20261128"))
