"""Reads one-frame DICOM images: `elements.py` finds what makes pixels, `frame.py` bounds it, `reader.py` decodes it."""
