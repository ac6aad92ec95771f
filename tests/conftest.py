"""What every test starts from."""

import os

# The tensors of these tests are small: threads would only wait for one another, for seconds where a core is busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
