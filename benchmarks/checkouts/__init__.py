"""Two or more checkouts of this repository, served side by side and measured in alternating windows."""
