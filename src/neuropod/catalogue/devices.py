"""Which devices are of which type: the catalogue's pattern against what a device calls itself. Pure; used by pods."""

import re


def fits(model_pattern: str, model: str) -> bool:
    """Tell whether a device of this model is one of the type whose pattern this is.

    The pattern is a regular expression for the whole name, letters' case aside; an empty one (the type without GPU)
    and one that is no regular expression fit nothing.
    """
    if not model_pattern:
        return False
    try:
        return re.fullmatch(model_pattern, model.strip(), re.IGNORECASE) is not None
    except re.error:
        return False
