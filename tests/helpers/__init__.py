"""Real small things that tests use: a model, servers, clients."""
