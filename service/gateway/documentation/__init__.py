"""The OpenAPI document of the gateway, and the schemas of its queries and replies."""
