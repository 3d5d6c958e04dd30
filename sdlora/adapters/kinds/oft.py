"""OFT and BOFT: a weight turned by orthogonal blocks (arXiv 2306.07280, 2311.06243), as LyCORIS, kohya and PEFT write it."""

from sdlora.adapters.kind_spec import FileKind

FILE_KINDS = (FileKind("oft", "OFT", ("oft_blocks", "oft_diag", "oft_R.weight"), None),)
