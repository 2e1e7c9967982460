"""Audits in units: each image's facts in parts, and the findings from all parts."""
