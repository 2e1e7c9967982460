"""HTTP around every route: middleware, access control, admission, cancellation, replies."""
