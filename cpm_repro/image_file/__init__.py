"""Photographs in files: every part of the program reads them here, checked before they are decoded."""

from cpm_repro.image_file.headers import HEAD, picture_kind
from cpm_repro.image_file.read import MAX_PIXELS, decode_image, read_image, turned_size

__all__ = ["HEAD", "MAX_PIXELS", "decode_image", "picture_kind", "read_image", "turned_size"]
