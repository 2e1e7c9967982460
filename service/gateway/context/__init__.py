"""What every room of the gateway knows: the request being answered, deadlines, errors, settings."""
