"""The OpenAPI document of the gateway, and its page."""
