"""Requests to a server over HTTP: the endpoint, the token, errors in the terms of this package, and back-off."""
