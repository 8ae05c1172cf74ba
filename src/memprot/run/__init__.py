"""Running a Python program so that what breaks its memory is named."""
