"""The page: its files and the headers that they are sent with."""
