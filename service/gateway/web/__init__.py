"""The pages: their files and the headers that they are sent with."""
