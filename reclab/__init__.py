"""reclab: the helpers behind a notebook series on large language models in recommender systems.

Import the module of the topic (``from reclab import metrics``); nothing heavy is loaded before it is needed.
"""

from .profiles import Profile, get_profile

__version__ = "0.2.0"
__all__ = ["Profile", "__version__", "get_profile"]
