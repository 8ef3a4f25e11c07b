"""
LiteLLM, imported when it is first needed, and silenced.
"""

import logging
import os
from types import ModuleType


def litellm() -> ModuleType:
    """
    Return LiteLLM. The first call takes 2.5 s and 150 MB, which a command that calls no provider
    shall not pay.
    """
    # Read when it is imported. It would ask the network for a price table,
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    # and fetch pictures from wherever a client says.
    os.environ["MAX_IMAGE_URL_DOWNLOAD_SIZE_MB"] = "0"
    import litellm as library  # noqa: PLC0415

    # All would carry providers' words, prompts and names to wherever a log or an error goes.
    library.suppress_debug_info = True
    library.telemetry = False
    library.expose_router_debug_in_errors = False
    for name in ("LiteLLM", "LiteLLM Router"):
        logging.getLogger(name).disabled = True
    # Claude's vocabulary, once more as Python objects, out of which LiteLLM has made the text that
    # it uses: 14 MiB in every worker (measured, 1.106.2).
    vars(library.utils).pop("json_data", None)
    module: ModuleType = library
    return module
