from .alignment import align as align
from .alignment import permute as permute
from .automated_band import auto_neb as auto_neb
from .elastic_band import neb as neb
from .path import Path as Path
from .simplified_string import string as string
from .straight import straight_line as straight_line
from .trained_curves import bezier as bezier
from .trained_curves import polychain as polychain

__all__ = ["Path", "align", "auto_neb", "bezier", "neb", "permute", "polychain", "straight_line", "string"]
