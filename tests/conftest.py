"""One thread for every test: results and time do not hang on the machine's cores."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
# torch tells some warnings once a process: then whether a test fails would hang on their order
torch.set_warn_always(True)
