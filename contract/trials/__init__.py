"""Trials of a candidate on live traffic: the index's part, and what gateways found."""
