"""Photographs in files: every part of the program reads them here, checked before they are decoded."""

from cpm_repro.image_file.read import MAX_PIXELS, decode_image, read_image

__all__ = ["MAX_PIXELS", "decode_image", "read_image"]
