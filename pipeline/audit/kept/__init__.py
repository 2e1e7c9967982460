"""Results of earlier audits, kept by the content of files."""
