"""Parts of the page of an audit: the checks in words, contact sheets of the classes."""
