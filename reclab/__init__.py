"""reclab: the helpers behind a notebook series on large language models in recommender systems.

Import the module of the topic (``from reclab import metrics``); nothing heavy is loaded before it
is needed.
"""

import os

from .profiles import Profile, cores_granted, cores_seen, get_profile

# Each library asks for these once, when it is loaded: so import reclab before torch and
# scikit-learn. Processes that are started from this one inherit them.
# On a busy machine OpenMP's threads, which spin while they wait for each other, keep the processor
# from the very thread that they wait for. They sleep here; results stay the same to the bit.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# A container may see more processors than it gets the time of; more threads would only wait.
if cores_granted() < cores_seen():
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, int(cores_granted()))))

__version__ = "0.2.0"
__all__ = ["Profile", "__version__", "get_profile"]
